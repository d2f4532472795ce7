"""Streams, through http_client(): shared by many processes, at which delay, at which cost; and when a leader dies."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from bench.crew import SLACK, Crew
from bench.places import BOTH, MODES, Opener
from bench.row import Reading, quantile
from bench.telling import Heard, Readers, Story, read, upstream

PROCESSES, EACH = 4, 25
P50, P99 = 0.002, 0.015  # s, of a follower elsewhere on Redis


def fleet(quick: bool) -> Iterator[Reading]:
    """Readers of several processes join one stream at random times."""
    story = Story(events=60) if quick else Story()
    for opener in BOTH:
        for mode in MODES:
            yield _fleet(opener, mode, story, 5 if quick else EACH)


def _fleet(opener: Opener, mode: str, story: Story, each: int) -> Reading:
    dice = random.Random(7)
    length = story.ttft + story.events * story.gap
    with opener() as place, Crew() as crew:
        telling = crew.hire(upstream, story)
        base = f"http://127.0.0.1:{telling.hear()}"
        hands = []
        for number in range(PROCESSES):
            after = tuple(dice.uniform(0, 0.9 * length) for _ in range(each))
            hands.append(crew.hire(read, Readers(place.url, base, (0.0, *after[1:]) if not number else after, mode)))
        for hand in hands:
            hand.hear()
        at = time.monotonic() + 0.3
        for hand in hands:
            hand.tell(at)
        heard: list[list[Heard]] = [hand.hear(length + SLACK)[0] for hand in hands]
        telling.tell("how many?")
        opened = telling.hear()
    everyone = [one for process in heard for one in process]
    leader = next(one for one in everyone if "collapsed" not in one.status and "hit" not in one.status)
    elsewhere = [one for process in heard if leader not in process for one in process]
    late = _delays(leader, elsewhere)
    same = len({one.digest for one in everyone}) == 1 and not any(one.error for one in everyone)
    p50, p99 = quantile(late, 0.5), quantile(late, 0.99)
    measured = (
        f"{opened} upstream stream, {len(everyone)} readers, {'the same bytes' if same else 'NOT the same bytes'}; delay"
        f" of {len(late)} events elsewhere p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms"
    )
    passed = opened == 1 and same and (place.server is None or (p50 <= P50 and p99 <= P99))
    return Reading(
        f"{place.name}, {mode}, {PROCESSES} x {each}", measured, passed, {"opened": opened, "p50_s": p50, "p99_s": p99}
    )


def _delays(leader: Heard, others: list[Heard]) -> list[float]:
    """How much later than the leader others got the events that came when they had joined."""
    return [
        their - mine
        for one in others
        for mine, their in zip(leader.times, one.times, strict=False)
        if mine > one.headers + 0.05
    ]
