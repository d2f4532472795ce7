"""The bills of an answer in the bytes in which it is stored or shared, for those that have nothing else of it."""

from __future__ import annotations

from askonce.core.providers import bounded
from askonce.core.providers.parts import answers_in
from askonce.core.providers.scan import StreamScan
from askonce.core.providers.usage import Bill, bills_of
from askonce.core.tape import DATA, frames

LENGTH = 4  # bytes before the head of an answer of HTTP, which say how long that is


def bills_in(form: str, body: bytes) -> list[Bill]:
    """The bills of a value (``v``), an answer of HTTP (``j``) or a tape (``s``); none of what cannot be read."""
    try:
        if form == "s":
            return _of_tape(body)
        start = LENGTH + int.from_bytes(body[:LENGTH], "big") if form == "j" else 0
        return list(bills_of(answers_in(bounded.loads(body[start:]))))
    except (ValueError, RecursionError):
        return []


def _of_tape(log: bytes) -> list[Bill]:
    scan = StreamScan(None)
    for kind, payload in frames(log):
        if kind == DATA:
            scan.feed(payload[4:])
    return list(scan.bills())
