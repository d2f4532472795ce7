"""HTTP clients for SDKs: a request becomes a question, an answer becomes a response, and the SDK sees no difference.

`request` reads what was sent, `response` is an answer and its bytes, `rules` decides; these three do no I/O.
`transport` is one body for httpx2 and httpx, `transports` its sync and its async form. `client` makes clients as the
SDKs make their own. Leases, stores and locks are unknown here: a question goes to the engine.
"""
