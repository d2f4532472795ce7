"""The store of one machine: one SQLite file, shared by its processes.

Decisions are the ledger's (`store.ledger`) and the core's. No other store, and nothing of who asks, is known here.
"""
