"""The protocol of a lookup: read, claim, then serve, lead or follow. Written once for sync and async.

No file here opens a socket, knows SQL or HTTP, starts a thread or a task, or sleeps. The store waits; `runtime` runs.
"""
