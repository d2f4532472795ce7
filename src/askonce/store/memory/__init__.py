"""The store of one process: a dict, a lock, and those that listen. Nothing of it outlives the process."""
