"""A service of Redis Sentinel: who its primary is, by what the sentinels say.

Sentinels may disagree: one that was cut off still names the old primary. Each failover raises the service's config
epoch, so of two answers the one with the higher epoch is newer. An answer counts until the server itself says that it
is no primary, or until a sentinel announces another one.

This file only decides. `asking` asks, for a thread and for a loop, and `watch` listens to announcements.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from askonce.core.providers.named_tuples import NamedTuple
from askonce.store import StoreTrouble
from askonce.store.redis.address import Epoch, RedisAddress
from askonce.store.redis.scripts import pack
from askonce.store.redis.trouble import Refusal

PORT = 26379
RECENT = 1.0  # s that an answer is used for further connections, unless it is doubted
NEWS = 10.0  # s after which every sentinel has heard of a failover
NAMES_TOLD = 10  # services named in an error


class Report(NamedTuple):
    """What one sentinel says of a service. `down`: it says that this server does not answer it.

    `since`: for how long this sentinel has had it for the primary, s. `moving`: it is replacing it by another one.
    """

    host: str
    port: int
    epoch: int
    down: bool = False
    others: int = 0  # sentinels that it knows besides itself
    since: float = math.inf
    moving: bool = False


class Service:
    """One service. `sentinels`: their addresses, the one that answered last first.

    `least`: how many other sentinels one must know to be believed. `host`: used in place of each host that they name.
    """

    def __init__(self, name: str, sentinels: Sequence[RedisAddress], least: int = 0, host: str | None = None) -> None:
        self.name = name
        self.sentinels = list(sentinels)
        self.least = least
        self.host = host
        # Asked for together: during a failover only the first names the promoted server, and only the second has the
        # epoch. A service's name may hold spaces.
        self.question = pack(b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name) + pack(b"SENTINEL", b"MASTER", name)
        self.lost: set[RedisAddress] = set()  # sentinels that were asked in vain, and have not answered since
        self._recent: tuple[int, float, list[Report]] | None = None

    def recent(self, epoch: int) -> list[Report]:
        """What the sentinels said a moment ago, in this epoch of the address."""
        known = self._recent
        return known[2] if known and known[0] == epoch and time.monotonic() - known[1] < RECENT else []

    def keep(self, epoch: int, reports: list[Report]) -> None:
        """The sentinels said this for an epoch of the address."""
        if not self.recent(epoch):
            self._recent = (epoch, time.monotonic(), reports)

    def lose(self, sentinel: RedisAddress) -> None:
        """A sentinel did not answer: ask it last."""
        self.lost.add(sentinel)
        self.sentinels = [*(one for one in self.sentinels if one is not sentinel), sentinel]  # a new list: it is shared

    def heard(self, place: str) -> None:
        """A sentinel answered a question. It is not enough that it could be reached."""
        self.lost.difference_update([one for one in self.sentinels if one.place == place])

    def doubt(self) -> None:
        """Ask the sentinels before the next connection is made."""
        self._recent = None

    def announced(self, words: Sequence[bytes]) -> bool:
        """Whether a message of a sentinel (+switch-master, +promoted-slave) is about this service."""
        text = b" ".join(words)
        name = self.name.encode()
        return text.startswith(name + b" ") or b" @ " + name + b" " in text

    def read(self, replies: Sequence[Any]) -> Report | None:
        """The report in the replies to `question`; None if this sentinel does not know the service."""
        named, said = replies
        for reply in (named, said):
            if type(reply) is Refusal and not _unknown(reply):
                raise StoreTrouble(reply.trouble().kind, _refused(reply), "connecting", "sentinel")
        if named is None or type(said) is Refusal:
            return None
        try:
            report = _report(named, said)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise StoreTrouble("store-error", f"no sentinel answers like this: {said!r}"[:200], "connecting") from None
        if report.others < self.least:
            raise StoreTrouble("store-error", f"it knows {report.others} other sentinels, not {self.least}")
        return report._replace(host=self.host or report.host)


def _unknown(reply: Refusal) -> bool:
    return "No such master" in str(reply) or "No such primary" in str(reply)


def _refused(reply: Refusal) -> str:
    if "unknown command" in str(reply).lower():
        return f"it is no sentinel ({reply}): name a single server by redis://host:port"
    return str(reply)


def _report(named: Any, said: Any) -> Report:
    host, port = named[0].decode(), int(named[1])
    facts = said if isinstance(said, Mapping) else dict(zip(said[::2], said[1::2], strict=True))
    flags = set(facts[b"flags"].split(b","))
    # The flags are the old primary's while another one is being promoted.
    same = (facts[b"ip"].decode(), int(facts[b"port"])) == (host, port)
    down = same and not flags.isdisjoint({b"s_down", b"o_down"})
    since = int(facts.get(b"role-reported-time", 0)) / 1000 if same else 0.0
    others = int(facts.get(b"num-other-sentinels", 0))
    return Report(host, port, int(facts[b"config-epoch"]), down, others, since, b"failover_in_progress" in flags)


class Survey:
    """One round of questions to all sentinels; those that were lost are left out if more than half say the same."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.left = list(service.sentinels)
        self.reports: list[Report] = []
        self.ignorant: RedisAddress | None = None  # a sentinel that answers, and does not know the service
        self.known: list[str] = []  # names of services that it knows
        self._troubles: list[StoreTrouble] = []

    @property
    def settled(self) -> bool:
        """Whether no further sentinel has to be asked."""
        if not self.left or not self.service.lost.issuperset(self.left):
            return not self.left
        same = [report for report in self.reports if report[:4] == self.reports[-1][:4]]
        return 2 * len(same) > len(self.service.sentinels)

    def hear(self, sentinel: RedisAddress, said: list[Any] | StoreTrouble) -> None:
        """What came of asking a sentinel, which is asked earlier or later the next time."""
        self.left.remove(sentinel)
        try:
            if isinstance(said, StoreTrouble):
                raise said
            report = self.service.read(said)
        except StoreTrouble as trouble:
            self._troubles.append(StoreTrouble(trouble.kind, f"{sentinel.text}: {trouble}", "connecting", "sentinel"))
            self.service.lose(sentinel)
            return
        self.service.lost.discard(sentinel)
        if report is None:
            self.ignorant = sentinel
        else:
            self.reports.append(report)

    def hear_names(self, said: list[Any] | StoreTrouble) -> None:
        """The reply to SENTINEL MASTERS of a sentinel that does not know the service."""
        services = said[0] if isinstance(said, list) and isinstance(said[0], list) else []
        for facts in services:
            names = facts if isinstance(facts, Mapping) else dict(zip(facts[::2], facts[1::2], strict=False))
            self.known.append(names.get(b"name", b"?").decode("utf-8", "replace"))

    def candidates(self) -> list[Report]:
        """The servers that may be the primary, the likeliest first; StoreTrouble if the sentinels name none."""
        newest: dict[tuple[str, int], Report] = {}
        for report in sorted(self.reports, key=lambda one: (-one.epoch, one.down, one.since)):
            newest.setdefault(report[:2], report)
        up = [report for report in newest.values() if not report.down]
        if up:
            return up
        raise self._trouble()

    def _trouble(self) -> StoreTrouble:
        name = repr(self.service.name)
        if self.reports:
            return StoreTrouble(
                "store-refused",
                f"the primary of {name} is down, and the sentinels have not named another one yet",
                "connecting",
                "failover",
            )
        if self.ignorant is not None:
            known = ", ".join(map(repr, sorted(self.known)[:NAMES_TOLD])) or "none"
            said = f"the sentinels know no service {name}; they know: {known}"
            return StoreTrouble("store-refused", said, "connecting", "service")
        worst = next((one for one in self._troubles if one.kind == "store-denied"), self._troubles[-1])
        return StoreTrouble(worst.kind, f"no sentinel told who the primary is: {worst}", "connecting", "sentinel")


class ServiceEpoch(Epoch):
    """The epoch of a service's connections, and the server that they all lead to.

    All stores of a process that name the same sentinels and service have it in common. Each step is one step of a dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self._primaries: dict[int, tuple[Report, float]] = {}  # by epoch: the server, and when it was found

    @property
    def primary(self) -> Report | None:
        """The server that the connections of this epoch lead to; None if there are none yet."""
        known = self._primaries.get(self.number)
        return known and known[0]

    def found(self, number: int, primary: Report) -> int:
        """A connection that was sought in an epoch leads to this server. Return its epoch.

        That is the next one, begun for it, if those of this epoch lead to another server. If the epoch is over by now,
        the connection is of no use: what it was sought by is older than what ended the epoch.
        """
        now = time.monotonic()
        known, _ = self._primaries.setdefault(number, (primary, now))
        if number != self.number:
            return number
        if known[:2] != primary[:2]:
            number = next(self._numbers)
            self._primaries[number] = primary, now  # first: others may connect as soon as it has begun
            self._begin(number)
        elif known.epoch < primary.epoch:
            self._primaries[number] = primary, now
        return number

    def _begin(self, number: int) -> None:
        for old in [one for one in list(self._primaries) if one < number]:
            self._primaries.pop(old, None)
        super()._begin(number)

    def newest(self, reports: list[Report]) -> list[Report]:
        """The candidates, the likeliest first: the present primary, if those who know of it did not answer.

        Only for a while after it was found: sentinels that were set up anew begin again with the first epoch.
        """
        known, since = self._primaries.get(self.number, (None, 0.0))
        if known is None or time.monotonic() - since > NEWS or any(one.epoch >= known.epoch for one in reports):
            return reports
        return [known, *(one for one in reports if one[:2] != known[:2])]

    def leads_to(self, report: Report) -> bool:
        """Whether connections lead to the primary of a report."""
        known = self.primary
        return known is not None and known[:2] == report[:2]

    def superseded_by(self, report: Report) -> bool:
        """Whether a report names another primary than the one that connections lead to."""
        known = self.primary
        return known is not None and report.epoch >= known.epoch and report[:2] != known[:2] and not report.down


_epochs: dict[tuple[str, str | None], ServiceEpoch] = {}


class SentinelAddress(RedisAddress):
    """The primary of a service, wherever it is. `text` names the sentinels and the service."""

    epoch: ServiceEpoch

    def __init__(
        self, kind: type, options: Mapping[str, Any], timeout: float, service: Service, spelled: Collection[str] = ()
    ) -> None:
        self.service = service
        self._servers: dict[tuple[str, int], RedisAddress] = {}
        bare = {name: value for name, value in options.items() if name not in {"host", "port"}}
        super().__init__(kind, bare, timeout, spelled)

    def _shared_epoch(self) -> ServiceEpoch:
        return _epochs.setdefault((self.text, self.service.host), ServiceEpoch())

    def named(self) -> str:
        """As people write it: ``redis+sentinel://user@host:port,host:port/service/0``."""
        scheme, _, rest = super().named().partition("://")
        user, at, place = rest.rpartition("@")
        sentinels = ",".join(sorted(one.place for one in self.service.sentinels))
        return f"{scheme}+sentinel://{user}{at}{sentinels}/{self.service.name}/{place.rpartition('/')[2]}"

    def found(self, epoch: int, reports: list[Report], primary: Report) -> int:
        """A connection that was sought in an epoch was made, by these reports. Return its epoch."""
        epoch = self.epoch.found(epoch, primary)
        if epoch == self.epoch.number:
            self.service.keep(epoch, reports)
        return epoch

    def at(self, host: str, port: int) -> RedisAddress:
        """The address of one server, with this address's options."""
        return self._servers.get((host, port)) or self._servers.setdefault((host, port), super().at(host, port))
