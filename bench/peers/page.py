"""docs/peers.md and its plots, made of the notes of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bench.peers.catalog import USES, Peer, Use
from bench.peers.plot import Bar, bars

HEAD = """\
# askonce beside other caches

One machine, one run, everything in turn, each library in an environment and in processes of its own. Written by
`make peers`, never by hand. All use the same Valkey server, the same disk, and the same upstream, which counts its
calls. Questions have 2 KB, answers 2 KB or 50 KB. Each library has the settings that its documentation recommends for
this use, and where it leaves the key or the format to the program, the fastest that we know (SHA-256 and orjson). Locks
that have a time to live have 30 s.

Times are medians (p50) and 99th percentiles (p99). "Ratio" is the time of a library divided by that of askonce in the
same use: above 1, askonce is faster. Use the ratios. The times are those of this machine.
"""
LOOKUPS = """\
A lookup of an answer that is stored, for one caller: from the request to an answer that the program can use. It
includes the key and the decoding, except for redis-py, which is the floor: a `GET` of a known key. Different questions
are asked in turn, 1,000 with short answers and 40 with long ones. For LangChain and LiteLLM this is a whole call of the
model; for HTTP clients, a whole request.
"""
MISSES = """\
A lookup of a new question: the lookup, the call, and storing the answer. The upstream answers at once, over HTTP, so
this is what the cache adds, and the rows without a cache show what the call takes alone. askonce takes a lease before
the call, which a cache without a lock saves.
"""
STAMPEDES = """\
{callers} callers in {processes} processes ask one new question at one time. The call takes {call:g} s. "Calls paid" is
what the upstream counted: 1 is the aim, {callers} is no protection. The time is that of the last caller. Medians of
{rounds} rounds.
"""
KILLED = """\
A process is killed (SIGKILL) 1 s after its call began; ten callers in two other processes wait for it, or make their
own call. The call takes {lost:g} s. The time runs from the kill to the last answer. A lock without a heartbeat is
waited for until it ends (30 s; a shorter one would end during a longer call, which is then paid twice). A cache without
a lock pays for every caller.
"""
STARTS = """\
The import statement, in a new interpreter. The first hit, from the import to the answer, in a new process. The memory
(RSS) of a process that has imported the library and has filled and read 1,000 entries of 2 KB. The bytes on disk of
what pip installs, with all dependencies and bytecode, without pip.
"""
WORSE = """\
Every number of this run in which another library is better than askonce in the same use, by more than 2 %. A cache
without a lock answers early after a leader was killed, because each of its callers pays.
"""
ALSO = """\
Numbers do not show what the others do and askonce does not: cashews, aiocache, dogpile.cache and diskcache cache any
function; requests-cache and hishel cache any HTTP API by the rules of RFC 9111; LangChain and LiteLLM have many more
stores, and caches that compare meanings. askonce caches calls of language models, and nothing else. It judges each
answer before it is stored, follows the lease while it waits, and invalidates by scope and tag; none of this is measured
here.
"""

Notes = Mapping[str, Mapping[str, Any]]


class Measure(NamedTuple):
    """A number of a peer: its name, how to find it, and how to write it. Less is better in all of them."""

    name: str
    of: Callable[[Mapping[str, Any]], float]
    write: Callable[[float], str]


def _time(microseconds: float) -> str:
    return f"{microseconds:.0f} us" if microseconds < 10_000 else f"{microseconds / 1000:.1f} ms"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def _milliseconds(value: float) -> str:
    return f"{value:.0f} ms"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _lookup(kind: str, size: str, part: str) -> Measure:
    return Measure(f"{kind}, {size}, {part}", lambda note: float(note[kind][size][part]), _time)


HITS = [_lookup("hit", size, part) for size in ("2 KB", "50 KB") for part in ("p50", "p99")]
MISSED = [_lookup("miss", size, part) for size in ("2 KB", "50 KB") for part in ("p50", "p99")]
IMPORT = Measure("import", lambda note: float(note["import"]), _milliseconds)
FIRST = Measure("import to first hit", lambda note: float(note["first"]), _milliseconds)
MEMORY = Measure("memory", lambda note: float(note["memory"]), _megabytes)
SIZE = Measure("install size", lambda note: float(note["size"]), _megabytes)
CROWD = Measure("stampede, last caller", lambda note: float(note["stampede"]["seconds"]), _seconds)
LOST = Measure("leader killed, last answer", lambda note: float(note["killed"]["seconds"]), _seconds)
COMPARED = [*HITS, *MISSED, CROWD, LOST, IMPORT, FIRST, MEMORY, SIZE]


def found(measure: Measure, note: Mapping[str, Any]) -> float | None:
    """The number, None if it was not measured."""
    try:
        return measure.of(note)
    except KeyError:
        return None


def page(run: Mapping[str, Any], uses: Sequence[Use] = USES) -> str:
    """The whole page, of what one run noted."""
    notes, extent = run["peers"], dict(run["extent"])
    extent["callers"] *= extent["processes"]
    facts = "\n".join(f"- {name}: {fact}" for name, fact in run["facts"].items())
    sections = [
        *(HEAD, facts, _plot("stampede")),
        *("## The libraries", _libraries(uses, notes)),
        *("## A hit", LOOKUPS, _plot("hit"), *_lookups(uses, notes, "hit")),
        *("## A miss", MISSES, _plot("miss"), *_lookups(uses, notes, "miss")),
        *("## A stampede", STAMPEDES.format(**extent), _crowds(uses, notes)),
        *("## A leader that is killed", KILLED.format(**extent), _plot("killed"), _lost(uses, notes)),
        *("## Start, memory, size", STARTS, _plot("memory"), _starts(uses, notes)),
        *("## Where askonce is not better", WORSE, worse(uses, notes), ALSO),
    ]
    return "\n\n".join(section.rstrip() for section in sections) + "\n"


def plots(run: Mapping[str, Any], uses: Sequence[Use] = USES) -> dict[str, str]:
    """The plots by name."""
    notes, extent = run["peers"], run["extent"]
    callers = extent["callers"] * extent["processes"]
    paid = Measure("", lambda note: float(note["stampede"]["paid"][len(note["stampede"]["paid"]) // 2]), _calls)
    hit, miss = HITS[0], MISSED[0]
    crowd = f"{callers} callers in {extent['processes']} processes ask one question"
    return {
        "stampede": _chart(f"{crowd}: calls paid", "fewer is better; 1 is the aim", paid, uses, notes),
        "hit": _chart("A hit, 2 KB", "median; shorter is better; a group has the same use", hit, uses, notes),
        "miss": _chart("A miss, 2 KB", "median, with a call that takes no time; shorter is better", miss, uses, notes),
        "killed": _chart(
            "A leader is killed: until all others have an answer",
            f"with the new call of {extent['lost']:g} s; caches without a lock pay for each caller instead of waiting",
            LOST,
            uses,
            notes,
        ),
        "memory": _chart("Memory of a process after 1,000 entries", "RSS; shorter is better", MEMORY, uses, notes),
    }


def worse(uses: Iterable[Use], notes: Notes) -> str:
    """A line for each number of askonce than which a peer has a better one in the same use."""
    lines = []
    for use in uses:
        ours, *others = use.peers
        for measure in COMPARED:
            if (limit := found(measure, notes[ours.name])) is not None:
                better = [one for one in others if one.cache and _least(measure, notes[one.name], limit / 1.02)]
                said = ", ".join(
                    f"{one.name.rpartition(', ')[0]} {_written(measure, notes[one.name])}" for one in better
                )
                lines += [_row(ours.name, measure.name, _written(measure, notes[ours.name]), said)] if better else []
    head = [_row("", "number", "askonce", "better"), _row(*["---"] * 4)]
    return "\n".join([*head, *lines]) if lines else "None."


def _least(measure: Measure, note: Mapping[str, Any], limit: float) -> bool:
    value = found(measure, note)
    return value is not None and value < limit


def _written(measure: Measure, note: Mapping[str, Any]) -> str:
    """A number, with the calls that were paid for it where those are counted."""
    value = measure.write(measure.of(note))
    kind = {CROWD.name: "stampede", LOST.name: "killed"}.get(measure.name)
    if kind is None:
        return value
    paid = note[kind]["paid"]
    return f"{value} ({paid if isinstance(paid, int) else paid[-1]} paid)"


def _calls(value: float) -> str:
    return f"{value:.0f}"


def _chart(title: str, note: str, measure: Measure, uses: Iterable[Use], notes: Notes) -> str:
    shown = []
    for peer in _peers(uses):
        value = found(measure, notes[peer.name])
        if value is not None:
            shown.append(Bar(peer.name, value, _written(measure, notes[peer.name]), not peer.ours))
    return bars(title, note, shown)


def _plot(name: str) -> str:
    return f"![{name}](peers/{name}.svg)"


def _peers(uses: Iterable[Use]) -> list[Peer]:
    return [peer for use in uses for peer in use.peers]


def _libraries(uses: Iterable[Use], notes: Notes) -> str:
    lines = [_row("in the tables", "version", "used as"), _row("---", "---", "---")]
    for peer in _peers(uses):
        versions = notes[peer.name].get("versions", {})
        names = [peer.room.shown, *(["redis"] if "redis" in versions and peer.room.shown != "redis" else [])]
        said = ", ".join(f"{name} {versions.get(name, '')}".strip() for name in names) if versions else "not installed"
        lines.append(_row(peer.name, said, peer.settings))
    return "\n".join(lines)


def _lookups(uses: Iterable[Use], notes: Notes, kind: str) -> list[str]:
    """A table for each use."""
    measures = HITS if kind == "hit" else MISSED
    head = ["", "2 KB p50", "p99", "ratio", "50 KB p50", "p99", "ratio"]
    tables = []
    for use in uses:
        rows = [_row(*head), _row(*["---"] * len(head))]
        rows += [_lookup_row(peer, notes, measures) for peer in use.peers if peer.cache or kind == "miss"]
        tables += [f"### {use.title}", "\n".join(rows)]
    return tables


def _lookup_row(peer: Peer, notes: Notes, measures: Sequence[Measure]) -> str:
    if reason := _reason(notes[peer.name], "lookups"):
        return _row(peer.name, reason, *[""] * 5)
    cells = []
    for median, tail in (measures[:2], measures[2:]):
        cells += [_cell(median, notes[peer.name]), _cell(tail, notes[peer.name]), _ratio(median, peer, notes)]
    return _row(peer.name, *cells)


def _cell(measure: Measure, note: Mapping[str, Any]) -> str:
    value = found(measure, note)
    return "" if value is None else measure.write(value)


def _ratio(measure: Measure, peer: Peer, notes: Notes) -> str:
    value, ours = found(measure, notes[peer.name]), found(measure, notes.get(peer.ours, {}))
    return f"{value / ours:.2f}" if value is not None and ours else ""


def _reason(note: Mapping[str, Any], measure: str) -> str:
    """Why there is no number, "" if there is one."""
    failed = note["failed"]
    return str(failed.get(measure) or failed.get("install", ""))


def _crowds(uses: Iterable[Use], notes: Notes) -> str:
    lines = [_row("", "calls paid", "last caller", "ratio", "callers with an error"), _row(*["---"] * 5)]
    for peer in _caches(uses):
        note = notes[peer.name]
        seen = note.get("stampede")
        if _reason(note, "stampede") or not seen:
            lines.append(_row(peer.name, _reason(note, "stampede") or "not measured", "", "", ""))
            continue
        low, high = seen["paid"][0], seen["paid"][-1]
        paid = f"{low}" if low == high else f"{low} to {high}"
        lines.append(_row(peer.name, paid, _seconds(seen["seconds"]), _ratio(CROWD, peer, notes), str(seen["errors"])))
    return "\n".join(lines)


def _lost(uses: Iterable[Use], notes: Notes) -> str:
    lines = [_row("", "calls paid", "all served after", "callers with an error"), _row(*["---"] * 4)]
    for peer in _caches(uses):
        note = notes[peer.name]
        seen = note.get("killed")
        if _reason(note, "killed") or not seen:
            lines.append(_row(peer.name, _reason(note, "killed") or "not measured", "", ""))
        else:
            lines.append(_row(peer.name, str(seen["paid"]), _seconds(seen["seconds"]), str(seen["errors"])))
    return "\n".join(lines)


def _starts(uses: Iterable[Use], notes: Notes) -> str:
    measures = (IMPORT, FIRST, MEMORY, SIZE)
    lines = [_row("", *[one.name for one in measures]), _row(*["---"] * 5)]
    for peer in _caches(uses):
        note = notes[peer.name]
        reason = _reason(note, "start") or _reason(note, "lookups")
        cells = [_cell(one, note) for one in measures]
        lines.append(_row(peer.name, *([reason, *cells[1:]] if reason else cells)))
    return "\n".join(lines)


def _caches(uses: Iterable[Use]) -> list[Peer]:
    return [peer for peer in _peers(uses) if peer.cache]


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
