"""The store of one process: a dict, a lock, and its listeners. Nothing of it outlives the process."""
