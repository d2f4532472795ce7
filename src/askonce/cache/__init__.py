"""What users hold: the caches, the handles on them, the options of a call, streams, the choice of a store.

A request becomes a question here, and an answer a copy for each caller. No lease, no lock and no I/O of its own: the
protocol is in `engine`.
"""
