"""What a doctor says of each thing that a server can or cannot do: what askonce needs it for, and what is lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from askonce.cli.check import Check
from askonce.store import StoreTrouble
from askonce.store.redis.abilities import Ability, abilities
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.names import DEFAULT

State = Literal["ok", "hint", "bad"]


class Need(NamedTuple):
    """A line: what the ability is, and without it the state and the consequence."""

    name: str
    what: str
    state: State
    lost: str


SHARDED = "callers that wait for another process are not woken, and ask every 0.1 s"
NEEDS = {
    "scripts": Need(
        "scripts",
        "runs scripts (EVAL, EVALSHA)",
        "bad",
        "every decision is a script, so nothing is cached here: use another service, or a file (sqlite:///)",
    ),
    "loading": Need("load", "loads scripts (SCRIPT LOAD)", "ok", "nothing: askonce sends a script's text where needed"),
    "undeclared": Need(
        "declared", "lets scripts use keys that were not declared", "ok", "nothing: askonce declares all its keys"
    ),
    "notices": Need(
        "notices",
        "delivers what scripts publish",
        "hint",
        "callers that wait for another process are not woken, and ask every 0.1 s: allow channels, &{{{prefix}:*",
    ),
    "sharded": Need("sharded", "delivers what scripts publish on sharded channels", "ok", "nothing: only a Cluster"),
    "tracking": Need("tracking", "tells of changes (client tracking, OPTIN)", "hint", "near= keeps nothing here"),
}
ABOUT_SCRIPTS = {"undeclared", "notices", "sharded"}  # of no interest where no script runs


def ability_checks(
    address: RedisAddress, unused: tuple[bytes, bytes], prefix: str, *, cluster: bool
) -> Iterator[Check]:
    """A line for each; by trying them on one server, with the names of a key and a channel that nothing uses."""
    yield Check("resp3", "speaks RESP3")  # each connection begins with it
    base = prefix or DEFAULT
    try:
        found = abilities(address, *unused)
    except StoreTrouble as trouble:
        yield Check("scripts", f"cannot tell what it can do: {trouble}", "hint")
        return
    for name, need in NEEDS.items():
        if name in ABOUT_SCRIPTS and found["scripts"].can is False:
            continue
        yield line(need, found[name], base, cluster=cluster and name == "sharded")


def line(need: Need, ability: Ability, prefix: str, *, cluster: bool = False) -> Check:
    """What is said of one ability; `cluster`: a Cluster needs it, and a single server does not."""
    if ability.can:
        return Check(need.name, need.what)
    if ability.can is None:
        return Check(need.name, f"cannot tell whether it {need.what}: {ability.why}", "hint")
    state: State = "hint" if cluster else need.state
    lost = SHARDED if cluster else need.lost.format(prefix=prefix)
    said = f"not: {need.what} ({ability.why})" if ability.why else f"not: {need.what}"
    if state == "ok":
        return Check(need.name, f"{said}; lost: {lost}")
    return Check(need.name, said, state, lost)
