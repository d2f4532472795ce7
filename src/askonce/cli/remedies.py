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


ABOUT = {
    "tls": "TLS failed: name the authority that signed the certificate (?ssl_ca_certs=FILE), and the host"
    " that the certificate names; use rediss:// only with TLS",
    "unsupported": "the service lacks this command, or forbids it: what is named before it does not work there",
    "service": "name one of the services that the sentinels know, at the end of the URL",
    "sentinel": "check that the URL names sentinels (port 26379), and their password (?sentinel_password=...)",
    "failover": "a failover is under way: wait; if it lasts, too few sentinels or replicas are left",
}


def remedy(found: object) -> str:
    """What to do about a store's trouble; "" if nothing is known."""
    return ABOUT.get(getattr(found, "about", "")) or REMEDIES.get(getattr(found, "kind", ""), "")


def with_remedy(error: Exception) -> str:
    """What an error says, and what to do about it, if it does not say so itself."""
    text = str(error).rstrip(".")
    # A file's trouble says it: which file, and what is wrong with it.
    said = "; " in text or ": name" in text or not (way := remedy(_cause(error)))
    if said:
        return text
    from askonce.store.redis.names import DEFAULT  # late: it imports redis

    return f"{text}: {way.format(prefix=DEFAULT)}"


def _cause(error: Exception) -> object:
    """The store's own trouble behind an error, which knows more about it."""
    cause = error.__cause__
    return cause if hasattr(cause, "kind") else error
