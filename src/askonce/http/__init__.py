"""HTTP clients for SDKs: what they send is a question, what comes back is an answer, and neither of them knows.

`request` reads what was sent, `response` is an answer and its bytes, `rules` decides (no I/O in these three);
`transport` is one body for httpx2 and httpx, `transports` its sync and its async form; `client` makes clients as the
SDKs make their own. Leases, stores and locks are not known here: a question goes to the engine.
"""
