"""Recordings for tests: a cache whose answers are in a file that can be committed. `askonce.pytest_plugin` uses it.

All rules of recordings live here; lifetimes, leases and waiting do not.
"""
