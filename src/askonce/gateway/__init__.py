"""The gateway: a caching reverse proxy for LLM APIs, for callers in any language (`askonce serve`).

`wire` has the requests, responses and errors of the gateway, `upstream_client` makes its calls, `tls` has the
certificates for them, and `transport` joins these to the rules and the engine that the library's own clients use.
`app` is the ASGI application, `protocol` and `server` run it in workers. `config` reads what the operator says, into
the values of `settings`; `operator_rules`, `tenants` and `credentials` decide by it who may have what, and
`gateway_rules` puts that into the reading of requests. A request that passes goes upstream byte for byte. Nothing here
decides what is a question, or what may be stored: that is the business of `http` and `core`. No other room imports
this one, except the command line.
"""
