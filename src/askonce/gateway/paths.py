"""Which upstream a path names, and the URL there. Paths are compared as they were sent, before any unquoting.

So nothing that an upstream would read in another way (``%2F``, dot segments, doubled slashes) is read here at all: it
is no path of the gateway, and goes to the upstream whose path it begins with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, unquote

OURS = "/_askonce"
NO_FRAGMENT = "a target of a request has no fragment"  # what sends it on would cut it off
_SPELLED = re.compile(r"[/\\]_askonce(?:$|[/\\;?#\s])", re.IGNORECASE)


def sent_path(scope: Mapping[str, Any]) -> str:
    """The path as it was sent, without the path under which the gateway is mounted."""
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    local = path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path
    raw = scope.get("raw_path")
    if raw is None:
        return quote(local, safe="/:@!$&'()*+,;=~") or "/"
    sent = raw.partition(b"?")[0].decode("latin-1")
    if sent == path == local:
        return sent or "/"
    # Servers differ in whether the raw path begins with what they were mounted under.
    rest = sent[len(quoted) :] if (quoted := quote(root)) and sent.startswith(quoted) else sent
    same = next((one for one in (rest, sent) if unquote(one) == local), None)
    return (quote(local, safe="/:@!$&'()*+,;=~") if same is None else same) or "/"


def target_problem(target: bytes, host: bytes) -> str:
    """What is wrong with the target of a request line, "" if nothing.

    A whole URL is what a client sends to its forward proxy. With another host than its own it was meant for that host,
    and so was its credential.
    """
    if target.startswith(b"/"):
        return NO_FRAGMENT if b"#" in target else ""
    scheme, found, rest = target.partition(b"://")
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    if not found or scheme.lower() not in {b"http", b"https"} or authority.lower() != host.strip().lower():
        return "the target of a request is a path: the gateway is the base URL of an API, and no forward proxy"
    return target_problem(rest[len(authority) :] or b"/", host)


def below(path: str, prefix: str) -> str | None:
    """The rest of a path below a prefix; None if it is not below it."""
    if not prefix:
        return path
    if path == prefix:
        return ""
    return path[len(prefix) :] if path.startswith(f"{prefix}/") else None


_STEPS = re.compile(r"[/\\]")
_AFTER = re.compile(r"[;?#\0]")
_BLANK = "".join(map(chr, range(33))) + "\x7f"
_READINGS = 3  # times that escapes may be read: by a balancer, a proxy, and the server behind them


def climbs(path: str) -> bool:
    """Whether any server may read a path as one that leads out of what stands before it.

    A step counts as one down only if all servers read it so, and as one up if any does: escapes may be read or not,
    parameters cut off or not, backslashes be slashes, and empty steps be none.
    """
    if ".." not in path and "%" not in path:
        return False
    depth = 0
    for step in path.split("/"):
        names = [_AFTER.split(name, maxsplit=1)[0].strip(_BLANK) for name in _STEPS.split(_read(step))]
        ups = names.count("..")
        depth += -ups if ups else any(name not in {"", "."} for name in names)
        if depth < 0:
            return True
    return False


def _read(step: str) -> str:
    for _ in range(_READINGS):
        if "%" not in step:
            break
        step = unquote(step)
    return step


def is_ours(path: str) -> bool:
    """Whether a path belongs to the gateway itself, or another spelling of one: that has no answer, and goes nowhere.

    A request to ``//_askonce/api`` may carry the admin token, which must not reach an upstream.
    """
    if path == OURS or path.startswith(f"{OURS}/"):
        return True
    return ("%" in path or "askonce" in path.lower()) and _SPELLED.search(unquote(path)) is not None
