"""Streams, through http_client(): shared by many processes, at which delay, at which cost; and when a leader dies."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

from askonce.fleet import HEARTBEAT
from bench.crew import SLACK, Crew
from bench.places import BOTH, MODES, Opener, valkey
from bench.row import Reading, quantile
from bench.telling import Heard, Readers, Story, endure, many, read, spend, upstream

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
        f"{opened} upstream stream, {len(everyone)} readers, {'the same bytes' if same else 'NOT the same bytes'};"
        f" delay of {len(late)} events elsewhere p50 {p50 * 1000:.2f} ms, p99 {p99 * 1000:.2f} ms"
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


def first(quick: bool) -> Iterator[Reading]:
    """The leader's own reader, with askonce and without, one stream after another in turn."""
    story = Story(events=20, ttft=0.02, gap=0.01)
    for opener in BOTH:
        for mode in MODES:
            with opener() as place, Crew() as crew:
                telling = crew.hire(upstream, story)
                base = f"http://127.0.0.1:{telling.hear()}"
                after = tuple(number * 0.3 for number in range(8 if quick else 40))
                heard = []
                for url in ("", place.url):
                    hand = crew.hire(read, Readers(url, base, after, mode, same=False))
                    hand.hear()
                    hand.tell(time.monotonic() + 0.1)
                    heard.append(hand.hear(after[-1] + SLACK)[0][1:])  # the first one also connects
            firsts, laters = zip(*map(_delayed, heard), strict=True)
            added, later = firsts[1] - firsts[0], laters[1] - laters[0]
            measured = (
                f"first event {added * 1000:+.2f} ms (of {firsts[0] * 1000:.2f}), later ones {later * 1000:+.2f} ms"
            )
            yield Reading(f"{place.name}, {mode}", measured, added <= 0.001, {"first_s": added, "later_s": later})


def _delayed(heard: list[Heard]) -> tuple[float, float]:
    """The median delay of first events, and of all later ones, since upstream sent them."""
    later = [delay for one in heard for delay in one.delays[1:]]
    return quantile([one.delays[0] for one in heard], 0.5), quantile(later, 0.5)


def cpu(quick: bool) -> Iterator[Reading]:
    """Streams that nobody follows, one at a time in a thread, ten at once in tasks."""
    story = Story(events=200, ttft=0.0, gap=0.001)
    for opener in BOTH:
        for mode in MODES:
            with opener() as place, Crew() as crew:
                telling = crew.hire(upstream, story)
                base = f"http://127.0.0.1:{telling.hear()}"
                streams = 10 if mode == "tasks" else 3
                hand = crew.hire(spend, Readers(place.url, base, (0.0,) * streams, mode), story.events)
                hand.tell(4 if quick else 12)
                spent: list[float] = hand.hear(60)[2:]  # the first round also connects
            bare, ours = quantile(spent[::2], 0.5), quantile(spent[1::2], 0.5)
            measured = f"{ours / bare:.2f} ({bare * 1e6:.0f} us an event without, {ours * 1e6:.0f} us with)"
            yield Reading(f"{place.name}, {mode}", measured, ours / bare <= 1.3, {"ratio": ours / bare})


def killed(quick: bool) -> Iterator[Reading]:
    """The leader is killed after a quarter of its events: followed by readers elsewhere, or by nobody yet."""
    story = Story(events=200, gap=0.01 if quick else 0.015)
    for opener in BOTH:
        for mode in MODES[:1] if quick else MODES:
            yield _killed(opener, mode, story, followed=True)
            yield _killed(opener, mode, story, followed=False)


def _killed(opener: Opener, mode: str, story: Story, *, followed: bool) -> Reading:
    dies = story.ttft + 50 * story.gap
    length = story.ttft + story.events * story.gap
    # Followed: ten have output when it dies, ten ask when it is known to be dead. Else: all ask after its death.
    early = (0.2,) * 5
    late = tuple(dies + HEARTBEAT + 1.0 + 0.02 * number for number in range(5))
    after = early + late if followed else (dies + 0.2,) * 10
    with opener() as place, Crew() as crew:
        telling = crew.hire(upstream, story)
        base = f"http://127.0.0.1:{telling.hear()}"
        leader = crew.hire(read, Readers(place.url, base, (0.0,), mode))
        others = [crew.hire(read, Readers(place.url, base, after, mode)) for _ in range(2)]
        for hand in (leader, *others):
            hand.hear()
        at = time.monotonic() + 0.3
        for hand in (leader, *others):
            hand.tell(at)
        time.sleep(max(0.0, at + dies - time.monotonic()))
        leader.kill()
        heard: list[Heard] = [one for hand in others for one in hand.hear(length + 2 * HEARTBEAT + SLACK)[0]]
        telling.tell("how many?")
        opened = telling.hear()
    cut = [one for one in heard if one.error]
    named = {one.error for one in cut if one.error.startswith("RemoteProtocolError: the stream of flight ")}
    served = [one for one in heard if not one.error and len(one.times) > story.events]
    measured = (
        f"{opened} upstream streams; {len(served)} of {len(heard)} served whole, {len(cut)} cut, by an error that names"
        f" {len(named)} flight"
    )
    same = len({one.digest for one in served}) == 1
    expected = (10, 10, 1) if followed else (20, 0, 0)
    passed = opened == 2 and same and (len(served), len(cut), len(named)) == expected
    case = "20 readers elsewhere, half of them with output" if followed else "20 readers elsewhere, none with output"
    return Reading(f"{place.name}, {mode}, {case}", measured, passed, {"opened": opened})


def crowd(quick: bool) -> Iterator[Reading]:
    """500 streams at once in one event loop, half of them hits; nothing is left of them."""
    story = Story(events=50, ttft=0.1, gap=0.02)
    for opener in BOTH:
        with opener() as place, Crew() as crew:
            telling = crew.hire(upstream, story)
            base = f"http://127.0.0.1:{telling.hear()}"
            number = 50 if quick else 500
            hand = crew.hire(many, Readers(place.url, base, (0.0,) * (number // 2), "tasks", same=False))
            whole, left, stats = hand.hear(180)
            telling.tell("how many?")
            opened = telling.hear()
        measured = f"{whole} of {number} whole, {opened} upstream streams, left: {left or 'nothing'}"
        passed = whole == number and opened == number // 2 * 2 and not left and not stats["flights"]
        yield Reading(f"{place.name}, {number} streams", measured, passed, {"opened": opened})


def memory(quick: bool) -> Iterator[Reading]:
    """500 streams at any time for ten minutes, half of them hits: what the process keeps of them."""
    story = Story(events=50, ttft=0.1, gap=0.1)
    number, seconds = (50, 20.0) if quick else (500, 600.0)
    with valkey() as place, Crew() as crew:
        telling = crew.hire(upstream, story)
        base = f"http://127.0.0.1:{telling.hear()}"
        hand = crew.hire(endure, Readers(place.url, base, (0.0,) * number, same=False), seconds)
        whole, broken, left, sizes = hand.hear(seconds + 2 * SLACK)
    third = len(sizes) // 3
    before, after = (quantile(part, 0.5) / 2**20 for part in (sizes[third : 2 * third], sizes[2 * third :]))
    measured = (
        f"{whole} streams whole, {broken} not; {before:.1f} MiB in the second third, {after:.1f} MiB in the last;"
        f" left: {left or 'nothing'}"
    )
    flat = after <= 1.03 * before
    yield Reading(f"{place.name}, tasks, {seconds:.0f} s", measured, not broken and not left and flat, {"mib": after})
