"""What a doctor looks at where sentinels name the primary: whether each answers, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator

from askonce.cli import say
from askonce.cli.check import Check
from askonce.store import CONNECT_TIMEOUT, Store, StoreTrouble
from askonce.store.redis.address import RedisAddress
from askonce.store.redis.connecting import open_connection
from askonce.store.redis.sentinel import Report, SentinelAddress
from askonce.store.redis.store import RedisStore


def sentinel_checks(store: Store) -> Iterator[Check]:
    """A line for the service, and one for each sentinel that is not well; nothing for any other store."""
    address = next(iter(store.servers().values()), None) if isinstance(store, RedisStore) else None
    if not isinstance(address, SentinelAddress):
        return
    asked = {sentinel: report_of(address, sentinel) for sentinel in sorted(address.service.sentinels, key=_place)}
    reports = [report for report in asked.values() if isinstance(report, Report)]
    yield _service(len(asked), reports)
    for sentinel, said in asked.items():
        if isinstance(said, StoreTrouble):
            remedy = "start it, or leave it out of the URL: sentinels that do not answer make reconnecting slower"
            yield Check("sentinel", f"{sentinel.place}: {said}", "hint", remedy)
        elif said is None:
            yield Check("sentinel", f"{sentinel.place}: does not know the service {address.service.name!r}", "hint")


def _place(address: RedisAddress) -> str:
    return address.place


def report_of(address: SentinelAddress, sentinel: RedisAddress) -> Report | StoreTrouble | None:
    """What one sentinel says of the service; None if it does not know it."""
    try:
        connection = open_connection(sentinel)
        connection.timeout = CONNECT_TIMEOUT
        connection.sock.settimeout(CONNECT_TIMEOUT)
        try:
            return address.service.read(connection.exchange(address.service.question, 2))
        finally:
            connection.close()
    except StoreTrouble as trouble:
        return trouble


def _service(asked: int, reports: list[Report]) -> Check:
    named = {f"{report.host}:{report.port}" for report in reports}
    said = f"{len(reports)} of {say.count(asked, 'sentinel')} name {' and '.join(sorted(named)) or 'a primary'}"
    if len(named) > 1:
        return Check("service", said, "hint", "a failover is under way, or a sentinel is cut off: look again")
    if 2 * len(reports) <= asked:
        return Check("service", said, "hint", "more than half must answer for a failover to happen: start the others")
    if any(report.down for report in reports):
        return Check("service", said, "bad", "they do not reach it: its password may be missing in their configuration")
    return Check("service", said)
