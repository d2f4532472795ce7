"""A question asked in one form, answered by an entry of the other: opt-in, by ``share_forms=True``.

Both forms of a plain question have the same digest and differ in the form beside it. So if the own entry is missing,
the other one is read before anything is claimed. core.providers.assemble converts it; if that cannot be exact, the
question goes its usual way. The result is not stored: the next reader converts the same entry, whose dates count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from askonce.core.keys import Form
from askonce.core.providers import Api
from askonce.core.providers.assemble import ARRAY, to_json, to_stream
from askonce.core.tape import DATA, META, frames
from askonce.http.response import Response, read_head, unpack


def other_forms(api: Api, form: Form, upstream: str) -> Iterable[tuple[Form, str]]:
    """The other forms and places that may hold the answer to a question, the likeliest first."""
    if form == "s":
        return [("j", upstream)]
    return [("s", upstream + variant) for variant in (api.stream.full if api.stream else ())]


def retelling(api: Api, form: Form, variant: str) -> Callable[[bytes], Response | None]:
    """A function that converts an entry of the other form to `form`; it returns None if it cannot be exact."""

    def as_json(log: bytes) -> Response | None:
        parts = frames(log)
        head = next((read_head(payload) for kind, payload in parts if kind == META), None)
        body = to_json(api, b"".join(payload[4:] for kind, payload in parts if kind == DATA))
        return _reply(head, body, b"application/json") if isinstance(head, Response) else None

    def as_stream(packed: bytes) -> Response | None:
        kept = unpack(packed)
        if not isinstance(kept, Response):
            return None
        kind = b"application/json" if ARRAY in variant else b"text/event-stream; charset=utf-8"
        return _reply(kept, to_stream(api, kept.body, variant), kind)

    return as_stream if form == "s" else as_json


def _reply(head: Response, body: bytes | None, content_type: bytes) -> Response | None:
    if body is None:
        return None
    kept = [pair for pair in head.headers if pair[0].lower() != b"content-type"]
    return Response(head.status, [*kept, (b"content-type", content_type)], body)
