"""HTTP clients for SDKs: what they send is a question, what comes back is an answer, and neither of them knows.

`sent` reads a request, `reply` is an answer and its bytes, `exchange` decides (no I/O in these three); `transport` is
the two shells, sync and async, of one body for httpx2 and httpx; `client` makes clients as the SDKs make their own.
"""
