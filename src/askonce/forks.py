"""What is to be done around a fork, where the system can fork at all: Windows cannot."""

from __future__ import annotations

import os
from collections.abc import Callable


def around_forks(
    *,
    before: Callable[[], object] | None = None,
    in_parent: Callable[[], object] | None = None,
    in_child: Callable[[], object] | None = None,
) -> None:
    """Have these called around every fork that Python makes, from now on."""
    hooks = {"before": before, "after_in_parent": in_parent, "after_in_child": in_child}
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**{name: hook for name, hook in hooks.items() if hook is not None})
