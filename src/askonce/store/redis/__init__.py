"""The store of several machines: a Redis or Valkey server, its connections, and the scripts in `lua/`.

Lua decides: each script is the twin of a function in `core.lease`, and never decides differently.
"""
