"""What must be done around a fork, and which process this is, checked at each use.

Python's hooks run around a fork made by `os.fork`, on systems that can fork (Windows cannot). A child that something
else made (a C library, a server that embeds Python) runs no hook. It has the parent's threads by name only, and
takes the parent's connections for its own. So code that is about to use what belongs to a process first calls
`here()`. It compares process ids, and in such a child does, once, what the hooks would have done.
"""

from __future__ import annotations

import os
from collections.abc import Callable

pid = os.getpid()  # as of the last `here()` or hook
_in_child: list[Callable[[], object]] = []


def around_forks(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Call these around every fork: those for the child in every child, in the order of these registrations.

    `before` and `in_parent` are called twice, and do nothing the second time.
    """
    if in_child is not None:
        _in_child.append(in_child)
    hooks = {"before": before, "after_in_parent": in_parent}
    told = {name: hook for name, hook in hooks.items() if hook is not None}
    if told and hasattr(os, "register_at_fork"):
        for _ in range(
            2
        ):  # Python swallows an exception that ends a hook, a Ctrl-C too: what it left undone is done then
            os.register_at_fork(**told)


def here() -> None:
    """Notice a fork that ran no hooks. Costs a system call, some 50 ns."""
    if os.getpid() != pid:
        _forked()


def _forked() -> None:
    global pid  # noqa: PLW0603
    pid = os.getpid()  # first: a hook may call here()
    for hook in _in_child:
        hook()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
