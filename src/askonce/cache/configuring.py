"""What `configure` takes, and the checks of it: a wrong value is found there, and not by the next cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from askonce.cache import config
from askonce.cache.opened import CACHE_OPTIONS
from askonce.cache.options import FIELDS, policy_of
from askonce.cache.pricing import pricer_of
from askonce.cache.sealing import find_compression, find_keys
from askonce.cache.stores import check_scheme
from askonce.core.spelling import meant
from askonce.engine.planner import Planner
from askonce.errors import UsageError


def configure(said: dict[str, Any], fields: Mapping[str, Any]) -> None:
    """Set defaults. ConfigError for those that no cache could be made with, UsageError for what is no default."""
    known = FIELDS | said.keys()
    for name in sorted(fields.keys() - FIELDS):
        raise UsageError(_unknown(name, known))
    if fields := {name: value for name, value in fields.items() if value is not None}:
        said = {**said, "policy": policy_of(config.setting("policy", said["policy"]), fields)}
    _check(said)
    config.configure(**said)


def _unknown(name: str, known: frozenset[str] | set[str]) -> str:
    if name in CACHE_OPTIONS:
        return f"{name}=: of one cache, and no default of all: write it in Cache({name}=...)"
    right = meant(name, known)
    return f"{name}=: unknown; write " + (f"{right}=" if right else f"any of {', '.join(sorted(known))}")


def _check(said: Mapping[str, Any]) -> None:
    """Check what takes more than a look. A function that returns keys is not called yet."""
    if isinstance(url := said["url"], str) and url:
        check_scheme(url)
    find_compression(said["compress"])
    if said["encryption"] is not None and not callable(said["encryption"]):
        find_keys(said["encryption"])
    if said["prices"] is not None:
        pricer_of(said["prices"])
    consistency = said["consistency"]
    policy = policy_of(said["policy"], {} if consistency is None else {"consistency": consistency})
    Planner("", "", policy, {} if said["scopes"] is None else said["scopes"], "on", None)
