"""One file a peer. Each runs in the environment of its peer, and imports that peer."""
