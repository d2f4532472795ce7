"""A Check: one line of what the doctor says."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Check(NamedTuple):
    """One line of a diagnosis: ``ok``, ``hint`` (it works, and could be better) or ``bad``."""

    name: str
    said: str
    state: Literal["ok", "hint", "bad"] = "ok"
    remedy: str = ""

    @property
    def well(self) -> bool:
        """Whether there is nothing to do about it."""
        return self.state == "ok"
