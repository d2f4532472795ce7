"""askonce beside the caches that people use: one machine, one run, taken in turn. `python -m bench.peers`.

A peer is a library, installed from the package registry into an environment of its own, with a small adapter
(`adapters/`) that uses it as its documentation says. A worker (`worker.py`) runs the adapter in that environment, and
takes orders as lines of JSON. The rest runs in the project's own environment. All peers share one server, one upstream
that counts its calls, and the questions of the other benchmarks.
"""
