"""What the headers of a request tell askonce: scope, tags, ttl, variant, and the directives of Cache-Control."""

from __future__ import annotations

from collections.abc import Mapping

from askonce.core.policy import Consistency, Control
from askonce.engine.question import NOTHING, Settings
from askonce.errors import ConfigError


def said(ours: Mapping[str, str]) -> Settings:
    """What the headers of a request tell askonce; unknown directives are ignored, as in HTTP."""
    if not ours:
        return NOTHING
    variant, ttl = ours.get("askonce-variant"), ours.get("askonce-ttl")
    control = ours.get("cache-control")
    return Settings(
        ttl=None if ttl is None else _seconds(ttl),
        scope=ours.get("askonce-scope"),
        tags=tuple(filter(None, (tag.strip() for tag in ours.get("askonce-tags", "").split(",")))),
        variant=int(variant) if variant is not None and variant.isdecimal() else variant,
        control=None if control is None else Control.parse(control, lenient=True),
        consistency=_word(ours.get("askonce-consistency")),
    )


def _word(text: str | None) -> Consistency | None:
    if text not in {None, "bounded", "strong"}:
        raise ConfigError(f"askonce-consistency: {text!r} is unknown: write strong, or bounded")
    return text  # type: ignore[return-value]


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"askonce-ttl: {text!r} is not a number: write seconds, such as 600") from None
