"""The store of one machine: one SQLite file, shared by its processes.

The ledger (`store.ledger`) and the core decide. Nothing here knows another store, or the caller's question.
"""
