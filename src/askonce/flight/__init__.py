"""The upstream calls of this process, the callers that wait for them, and the background thread that renews leases.

The circuit breakers are here too: every command to the store passes them. Nothing here knows questions or streams.
"""
