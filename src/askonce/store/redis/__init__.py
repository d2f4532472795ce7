"""The store of several machines: a Redis or Valkey server, its connections, and the scripts in `lua/`.

Decisions are taken in Lua: each script is the twin of a function of `core.lease`, and never decides otherwise.
"""
