"""Batches of embeddings: split into inputs on the way up, and joined from vectors on the way down.

Each input is a question of its own, so a batch pays only for inputs that no earlier batch asked. A vector is cut out of
its bytes and put back as the same bytes: no number is parsed and written again. The Frame that it stood in is kept with
it, so a batch that is asked again in the same way gets the exact bytes of the first answer.

A Frame is the text before the vectors, between two of them, and after the last, and the place of this vector in its
batch. An answer from several frames is written anew around the same vectors: order and indices are the caller's, and
usage is what this call paid, 0 if nothing.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from askonce.core.keys import Key
from askonce.core.providers.bounded import signs
from askonce.core.providers.named_tuples import NamedTuple
from askonce.engine.question import Question
from askonce.http.credentials import Header


@dataclass(slots=True)
class Batch:
    """The inputs of an embeddings request: a question for each distinct input, and which of them stands where."""

    body: dict[str, Any]
    questions: dict[Key, Question] = field(default_factory=dict)
    inputs: dict[Key, Any] = field(default_factory=dict)
    places: list[Key] = field(default_factory=list)


class Frame(NamedTuple):
    """What a vector stood in. `batch` names one upstream answer, `at` the vector's place among `of`."""

    before: str
    between: str
    after: str
    batch: str
    at: int
    of: int


class Vector(NamedTuple):
    """One item of `data`, as bytes of JSON; with the headers that were stored with it, if any."""

    item: bytes
    frame: Frame
    headers: Sequence[Header] = ()


# --- requests ----------------------------------------------------------------------------------------------------


def inputs_of(body: Mapping[str, Any]) -> list[Any] | None:
    """The inputs of a request, texts or lists of tokens; None if they are ambiguous."""
    given = body.get("input")
    if isinstance(given, str) or _tokens(given):
        return [given]
    if not isinstance(given, list) or not given:
        return None
    alike = all(isinstance(one, str) for one in given) or all(map(_tokens, given))
    return given if alike else None


def batch_of(body: dict[str, Any], ask: Callable[[object], Question]) -> Batch | None:
    """The request as a batch; None if its inputs are ambiguous."""
    inputs = inputs_of(body)
    if inputs is None:
        return None
    batch = Batch(dict(body))
    for one in inputs:
        question = ask(one)
        batch.places.append(question.key)
        if question.key not in batch.questions:
            batch.questions[question.key], batch.inputs[question.key] = question, one
    return batch


def _tokens(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int for one in value)


def weight_of(one: Any) -> int:
    """About how many tokens an input has: its answer tells only how many all inputs of a request have together."""
    return (len(one) + 2) // 4 + 1 if isinstance(one, str) else max(1, len(one))


# --- answers, cut ------------------------------------------------------------------------------------------------

_INDEX = re.compile(rb'"index"\s*:\s*(\d{1,9})(?!\d)')


def cut(body: bytes, asked: int) -> list[Vector] | None:
    """The vectors of an answer to `asked` inputs, in their order; None if the answer is not understood."""
    spans = list(itertools.islice(_spans(body), asked + 1))  # no more, because there may be millions
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
    # Answered in another order: the frame of the whole batch is useless, and its name must match no other.
    batch = os.urandom(8).hex() if order == list(range(asked)) else ""
    vectors = {
        at: Vector(item, Frame(before, between, after, batch, at, asked)) for at, item in zip(order, items, strict=True)
    }
    return [vectors[at] for at in range(asked)]


def _spans(body: bytes) -> Iterator[tuple[int, int]]:
    """Where the objects of the list `data` in the outermost object start and end."""
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
    """The exact bytes of the answer that these vectors came from, if they are all of it, in this order; else None."""
    first = vectors[0].frame
    alike = bool(first.batch) and first.of == len(vectors)
    if not alike or any((one.frame.batch, one.frame.at) != (first.batch, at) for at, one in enumerate(vectors)):
        return None
    items = first.between.encode().join(one.item for one in vectors)
    return b"".join((first.before.encode(), items, first.after.encode()))


def put_together(vectors: Sequence[Vector], paid: Frame | None) -> bytes:
    """An answer of these vectors, in this order; `paid`: the frame of what was called for it, None for nothing."""
    frame = paid or vectors[0].frame
    answer = orjson.loads(frame.before + frame.after)
    if paid is None:
        answer["usage"] = _unpaid(answer.get("usage"))
    answer["data"] = [orjson.Fragment(_INDEX.sub(b'"index":%d' % at, one.item, 1)) for at, one in enumerate(vectors)]
    return orjson.dumps(answer)


def _unpaid(usage: Any) -> Any:
    if isinstance(usage, dict):
        return {name: _unpaid(count) for name, count in usage.items()}
    return 0 if isinstance(usage, int | float) and not isinstance(usage, bool) else usage
