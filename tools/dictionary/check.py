"""Whether a dictionary holds a piece of what somebody asked or was told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from tools.dictionary.samples import Sample, vocabulary

PIECE = 24  # characters of a text that are no coincidence
_EVENT = re.compile(r"^data: ?(.*)$", re.MULTILINE)


def found_of(dictionary: bytes, samples: Iterable[Sample]) -> list[str]:
    """Pieces of the samples' texts that are in it, less those of words of protocols."""
    kept = list(samples)
    words = "\n".join(vocabulary(kept).protocol)
    windows = {dictionary[at : at + PIECE] for at in range(len(dictionary) - PIECE + 1)}
    found: dict[str, None] = {}
    for text in {text for one in kept for text in _texts(one)}:
        data = text.encode("utf-8", "replace")
        pieces = (data[at : at + PIECE] for at in range(len(data) - PIECE + 1))
        found.update((piece.decode("utf-8", "replace"), None) for piece in pieces if piece in windows)
    return [piece for piece in found if piece not in words]


def _texts(one: Sample) -> Iterator[str]:
    """Every value of a sample that is a text; of the head too."""
    for part in (one.head, one.text, *_EVENT.findall(one.text)):
        yield from _values(_read(part))


def _read(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _values(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        inside = _read(value) if value[:1] in {"{", "["} else None
        yield from _values(inside) if isinstance(inside, (dict, list)) else (value,)  # JSON in JSON is structure too
    elif isinstance(value, (dict, list)):
        for inside in value.values() if isinstance(value, dict) else value:
            yield from _values(inside)
