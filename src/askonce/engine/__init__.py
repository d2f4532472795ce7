"""The protocol of a lookup: read, claim, then serve, lead or follow. Written once for sync and async.

Nothing here opens a socket, knows SQL or HTTP, starts a thread or a task, or sleeps: the store waits, `runtime` runs.
"""
