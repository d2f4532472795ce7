"""Batches of embeddings: cut into inputs on the way up, and answers put together from vectors on the way down.

Each input is a question of its own, so a batch pays only for what no batch before it asked. A vector is cut out of the
bytes it came in and put back as those bytes: no number is read and written again. With it is kept the Frame it stood
in, so that a batch which is asked again, alike, is answered with the very bytes of the first time.

A Frame is the text before the vectors, between two of them, and behind the last; and which vector of which batch this
one was. An answer put together from several frames is written anew, around the same vectors: its order and its indices
are the caller's, and its usage is what was paid for it now, 0 if nothing was.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from askonce.core.providers.bounded import signs
from askonce.http.credentials import Header


class Frame(NamedTuple):
    """What a vector stood in. `batch` names one answer of upstream, `at` the vector's place of `of`."""

    before: str
    between: str
    after: str
    batch: str
    at: int
    of: int


class Vector(NamedTuple):
    """One item of `data`, as bytes of JSON; with the headers it was kept with, where it was."""

    item: bytes
    frame: Frame
    headers: Sequence[Header] = ()


# --- requests ----------------------------------------------------------------------------------------------------


def inputs_of(body: Mapping[str, Any]) -> list[Any] | None:
    """The inputs of a request, texts or lists of tokens; None where it is not clear what they are."""
    given = body.get("input")
    if isinstance(given, str) or _tokens(given):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    alike = all(isinstance(one, str) for one in given) or all(map(_tokens, given))
    return given if alike else None


def _tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


# --- answers, cut ------------------------------------------------------------------------------------------------

_INDEX = re.compile(rb'"index"\s*:\s*(\d{1,9})(?!\d)')


def cut(body: bytes, asked: int) -> list[Vector] | None:
    """The vectors of an answer to so many inputs, in their order; None for an answer that is not understood."""
    spans = list(itertools.islice(_spans(body), asked + 1))  # no more: there may be millions
    if len(spans) != asked:
        return None
    items = [body[start:end] for start, end in spans]
    order = [_index(item, at) for at, item in enumerate(items)]
    gaps = {body[end:start] for (_, end), (start, _) in itertools.pairwise(spans)}
    if sorted(order) != list(range(asked)) or len(gaps) > 1:
        return None
    try:
        before, after = body[: spans[0][0]].decode(), body[spans[-1][1] :].decode()
        between = (gaps.pop() if gaps else b",").decode()
    except UnicodeDecodeError:
        return None
    # Answered in another order: then the frame of a whole batch is of no use, and its name must be nobody's.
    batch = os.urandom(8).hex() if order == list(range(asked)) else ""
    vectors = {
        at: Vector(item, Frame(before, between, after, batch, at, asked)) for at, item in zip(order, items, strict=True)
    }
    return [vectors[at] for at in range(asked)]


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the objects in the list `data` of the outermost object start and end."""
    depth, start, name, inside = 0, 0, b"", False
    for sign, begins, ends in signs(body):
        if sign in b"[{":
            depth += 1
            inside = inside or (depth == 2 and sign == _LIST and name == b'"data"')
            if inside and depth == 3:
                start = begins
        elif sign in b"]}":
            depth -= 1
            if inside and depth == 2:
                yield start, ends
            if inside and depth == 1:
                return
        elif depth == 1:
            name = body[begins : min(ends, begins + 7)]


_LIST = ord("[")


def _index(item: bytes, at: int) -> int:
    found = _INDEX.search(item)
    return int(found[1]) if found else at


# --- answers, put together ---------------------------------------------------------------------------------------


def whole(vectors: Sequence[Vector]) -> bytes | None:
    """The very bytes of the answer that these vectors once were, if they were one, in this order, and all of it."""
    first = vectors[0].frame
    alike = bool(first.batch) and first.of == len(vectors)
    if not alike or any((one.frame.batch, one.frame.at) != (first.batch, at) for at, one in enumerate(vectors)):
        return None
    items = first.between.encode().join(one.item for one in vectors)
    return b"".join((first.before.encode(), items, first.after.encode()))


def put_together(vectors: Sequence[Vector], paid: Frame | None) -> bytes:
    """An answer of these vectors, in this order; `paid` is the frame of what was called for it, None for nothing."""
    frame = paid or vectors[0].frame
    answer = orjson.loads(frame.before + frame.after)
    if paid is None:
        answer["usage"] = _nothing(answer.get("usage"))
    answer["data"] = [orjson.Fragment(_INDEX.sub(b'"index":%d' % at, one.item, 1)) for at, one in enumerate(vectors)]
    return orjson.dumps(answer)


def _nothing(usage: Any) -> Any:
    """The same counts, all 0: nothing was paid."""
    if isinstance(usage, dict):
        return {name: _nothing(count) for name, count in usage.items()}
    return 0 if isinstance(usage, int | float) and not isinstance(usage, bool) else usage
