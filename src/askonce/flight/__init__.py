"""The upstream calls of this process, those that wait for them, and the background thread that renews leases.

Commands reach the store through its circuit breakers, which are here too. Nothing here knows questions or streams.
"""
