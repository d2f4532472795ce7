"""An invented API in one file, which test_new_api.py adds to a copy of the package.

    POST /haiku/v1/verses {"theme": "rain", "poet": "b"}  ->  {"verses": ["..."], "over": "fin", "spent": {"in": 1,
    "out": 2}}

Its stream has a verse in each event, and its end in the last. A poet's name is not repeated, and does not count.
"""

from __future__ import annotations

from collections.abc import Iterable

from askonce.core.providers.answers import Answer, Part
from askonce.core.providers.api import STREAM, Api, Left, Path, Stream
from askonce.core.providers.exact import exactly, sure
from askonce.core.providers.sse import begins, data_event
from askonce.core.providers.streamed import Read

_ENDINGS = {"fin": "stop", "torn": "length"}


def _parts(value: Answer) -> list[Part]:
    return [Part(_ENDINGS.get(str(value.get("over"))), bool(value["verses"]), said=value["verses"])]


def _gist(found: Read) -> Answer | None:
    last = found.values[-1] if found.values else {}
    verses = [value["verse"] for value in found.values if "verse" in value]
    return {"verses": verses, "over": last["over"], "spent": last.get("spent")} if "over" in last else None


def _to_json(found: Read) -> Answer:
    made = _gist(found)
    sure(made and made["spent"])
    return exactly(made, ("verses", "over", "spent"))


def _to_stream(answer: Answer, _asked: frozenset[str]) -> Iterable[bytes]:
    exactly(answer, ("verses", "over", "spent"))
    yield from (data_event({"verse": verse}) for verse in answer["verses"])
    yield data_event({"over": answer["over"], "spent": answer["spent"]})


API = Api(
    "haiku",
    paths=(Path("/haiku/v1/verses"),),
    asks=lambda body, _named: isinstance(body.get("theme"), str),
    left_out=(STREAM, Left("poet", (), "not repeated")),
    shape=lambda value: isinstance(value.get("verses"), list),
    signs=("verses",),
    parts=_parts,
    tokens=(("spent",), ("in",), ("out",)),
    stream=Stream(_gist, begins("data", '{"over"'), opens=lambda value: "verse" in value, signs=("verse",)),
    to_json=_to_json,
    to_stream=_to_stream,
)
