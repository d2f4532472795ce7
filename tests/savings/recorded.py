"""What the price of a recorded answer depends on."""

from __future__ import annotations

import json

from askonce.core.providers.parts import answers_in
from askonce.core.providers.scan import StreamScan
from askonce.core.providers.usage import Bill, bills_of


def found_in(text: str, *, stream: bool) -> list[Bill]:
    """The bills in the body of a response."""
    if not stream:
        try:
            return list(bills_of(answers_in(json.loads(text))))
        except ValueError:
            return []
    scan = StreamScan(None)
    scan.feed(text.encode())
    return list(scan.bills())
