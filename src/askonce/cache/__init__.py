"""What users hold: the caches, their handles, the options of a call, streams, and the choice of a store.

A request becomes a question here, and an answer becomes a copy for each caller. No leases, no locks and no I/O here:
the protocol is in `engine`.
"""
