"""How to run and to wait: in threads and in tasks, across forks, and with locks that nothing can leave locked.

Nothing here knows what it runs: no flight, no stream, no store.
"""
