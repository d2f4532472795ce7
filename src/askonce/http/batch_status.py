"""The status of a batch, whose inputs were looked up one by one."""

from __future__ import annotations

from askonce.events import Status


def joint(parts: list[Status]) -> Status:
    """The status of a batch in one line; events hold the status of each lookup."""
    hits = sum(part.hit for part in parts)
    if len(parts) == 1:
        return parts[0]
    ages = [part.age for part in parts if part.age is not None]
    left = [part.ttl for part in parts if part.ttl is not None]
    return Status(
        "",
        hit=hits == len(parts),
        fwd="" if hits == len(parts) else "miss",
        stored=any(part.stored for part in parts),
        collapsed=any(part.collapsed for part in parts),
        ttl=min(left, default=None),
        detail=f"hits-{hits}-of-{len(parts)}",
        age=max(ages, default=None),
    )
