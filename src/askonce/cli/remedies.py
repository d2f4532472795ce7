"""What to do about each kind of a store's trouble."""

from __future__ import annotations

from askonce.store import TIMEOUT

REMEDIES = {
    "store-refused": "no server listens there: start it, or name another server with --url or $ASKONCE_URL",
    "store-timeout": f"the store must answer within {TIMEOUT} s: look for a frozen server, a firewall, another writer",
    "store-closed": "the server closed the connection: check whether it needs TLS (rediss://) or has too many clients",
    "store-denied": "check user, password and rights: ~{{{prefix}:* &{{{prefix}:* +@all -@admin -@dangerous are enough",
    "store-readonly": "the store accepts no writes: name the primary, or a file that this user may write",
    "store-full": "make room: more maxmemory with maxmemory-policy allkeys-lfu, or space on the disk",
    "store-foreign": "the store holds data of another program: name another database, file or --prefix",
    "store-corrupt": "the file is damaged: delete it with its -wal and -shm files; it is only a cache",
    "store-down": "no primary of the cluster has these keys' slots: see CLUSTER INFO, and start or replace the primary",
    "store-moving": "slots are being moved: it ends with that; do not leave a slot half moved (CLUSTER NODES shows it)",
    "store-mismatch": "write redis+cluster://host:port for a Cluster, and redis://host:port/0 for a single server",
    "store-loading": "the server is loading its data: wait",
}
