"""The fields of a small form. Starlette reads forms with a package of its own; these need no more than the standard."""

from __future__ import annotations

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request

LARGEST = 16 * 1024  # bytes
FIELDS = 16
TYPE = "application/x-www-form-urlencoded"


async def fields(request: Request) -> dict[str, str]:
    """The fields of a form; HTTPException if it is too large, or no form at all."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != TYPE:
        raise HTTPException(415, "A form is expected.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise HTTPException(413, "This form is too large.")
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=FIELDS))
    except ValueError:
        raise HTTPException(400, "This form has too many fields.") from None
