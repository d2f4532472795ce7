"""Recordings for tests: a cache whose answers are in a file that can be committed. `askonce.pytest_plugin` uses it.

No rule of a recording lives elsewhere, and nothing of lifetimes, leases or waiting lives here.
"""
