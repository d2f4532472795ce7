"""Where two requests differ, by their trees of digests (core.field_digests), and which earlier request is nearest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from askonce.core.field_digests import CONTAINERS, LIST, LONG, OBJECT, TEXT, Node, leaves, step
from askonce.core.parts import BODY
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.why import Difference

MOST = 16  # places that are named
FEW = 3  # places in which a request that shares little may differ and still be near
COMPARED = 4  # requests that are compared place by place

Names = Callable[[bytes], str]  # the name of a digest, "?" if it is not known
Children = Sequence[tuple[bytes, Node]]


class Nearest(NamedTuple):
    """The nearest of several trees: its number, and the places that differ."""

    at: int
    differences: list[Difference]


def nearest(new: Node, olds: Sequence[Node], names: Names) -> Nearest | None:
    """The nearest tree, of equals the first; None if none is near. `names`: of the fields of all trees."""
    mine = frozenset(leaves(new))
    theirs = [frozenset(leaves(old)) for old in olds]
    found = [Nearest(at, differences(new, olds[at], names)) for at in likest(mine, theirs)]
    best = min(found, key=lambda one: len(one.differences), default=None)
    if best is None or not best.differences:
        return best
    shared = len(mine & theirs[best.at])
    few = len(best.differences) <= (FEW if shared else 1) and best.differences[0].field != BODY
    return best if few or 2 * shared >= len(mine | theirs[best.at]) else None


def likest(mine: frozenset[bytes], theirs: Sequence[frozenset[bytes]]) -> list[int]:
    """The numbers of the few trees that are compared place by place, by their leaves: the likest first."""
    return sorted(range(len(theirs)), key=lambda at: len(mine ^ theirs[at]))[:COMPARED]


def differences(new: Node, old: Node, names: Names) -> list[Difference]:
    """The places where a request differs from an earlier one; at most MOST, in the order of the request."""
    return list(islice(_parts(dict(new.children), dict(old.children), names), MOST))


def _parts(new: dict[bytes, Node], old: dict[bytes, Node], names: Names) -> Iterator[Difference]:
    """Compare the parts of two questions; the fields of the body are named without it."""
    for name in {**new, **old}:
        mine, theirs, part = new.get(name), old.get(name), names(name)
        if mine is not None and theirs is not None:
            yield from _compared(mine, theirs, "" if part == BODY else part, names)
        else:
            yield Difference(part, "missing" if mine is None else "extra")


def _compared(new: Node, old: Node, path: str, names: Names) -> Iterator[Difference]:
    if new.whole == old.whole:
        return
    if new.kind == old.kind == OBJECT:
        yield from _objects(new.children, old.children, path, names)
    elif new.kind == old.kind == LIST:
        yield from _lists(new.children, old.children, path, names)
    else:
        yield Difference(path or BODY, _kind(new, old))


def _objects(new: Children, old: Children, path: str, names: Names) -> Iterator[Difference]:
    theirs = dict(old)
    for name, one in new:
        place = step(path, names(name))
        if name in theirs:
            yield from _compared(one, theirs.pop(name), place, names)
        else:
            yield Difference(place, "extra")
    for name in theirs:
        yield Difference(step(path, names(name)), "missing")


def _lists(new: Children, old: Children, path: str, names: Names) -> Iterator[Difference]:
    mine, theirs = [one for _, one in new], [one for _, one in old]
    if len(mine) == len(theirs) and Counter(one.whole for one in mine) == Counter(one.whole for one in theirs):
        yield Difference(path or BODY, "order")
        return
    first = _alike(mine, theirs)
    last = _alike(mine[first:][::-1], theirs[first:][::-1])
    middle, other = mine[first : len(mine) - last], theirs[first : len(theirs) - last]
    for at, (one, before) in enumerate(zip(middle, other, strict=False), first):
        yield from _compared(one, before, step(path, at), names)
    for at in range(first + len(other), first + len(middle)):
        yield Difference(step(path, at), "extra")
    for at in range(first + len(middle), first + len(other)):
        yield Difference(step(path, at), "missing")


def _alike(mine: Sequence[Node], theirs: Sequence[Node]) -> int:
    """How many nodes two lists share at their beginning."""
    pairs = zip(mine, theirs, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a.whole != b.whole), min(len(mine), len(theirs)))


def _kind(new: Node, old: Node) -> str:
    """How two leaves differ."""
    if new.kind == old.kind == TEXT:
        return _of_texts(new.shapes, old.shapes)
    if new.kind == old.kind:
        return "digits" if new.kind == LONG else "value"
    return "type" if new.value == old.value and CONTAINERS.isdisjoint((new.kind, old.kind)) else "value"


def _of_texts(new: bytes, old: bytes) -> str:
    if new[2:4] == old[2:4]:  # without case
        return "unicode" if new[4:] == old[4:] else "case"
    return "digits" if new[:2] == old[:2] else "value"
