"""What a request over HTTP says of its answer: the model, the host, its own ids (core.providers.fits)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from askonce.core.providers import bounded
from askonce.core.providers.fits import ID_FIELDS, ID_HEADERS, Ids, Request, ids_of
from askonce.core.providers.operations import Operation
from askonce.http.credentials import Header
from askonce.http.header_names import Places
from askonce.http.request import SentRequest, lower, text_of

_FIELDS = re.compile(f'"(?:{"|".join(ID_FIELDS)})"'.encode())


def says(sent: SentRequest, model: str, operation: Operation, form: str) -> Request:
    """What a request says of its answer; its body is read again only if there is a doubt."""
    raw = sent.body or b"{}"
    body = partial(_object, raw)
    ids = ids_in(sent.headers, body if _FIELDS.search(raw) else None)
    where = f"{operation.api.name}{form} {urlsplit(sent.url).netloc}"
    return Request(model, operation.provider, where, body, ids)


def ids_in(headers: Sequence[Header], body: Callable[[], dict[str, Any]] | None = None) -> Ids:
    """The ids in headers, and in a body that may hold some."""
    found = [(lower(headers[at][0]), text_of(headers[at][1])) for at in _IDS.of(headers)]
    return ids_of(found, body) if found or body is not None else {}


_IDS = Places(lambda name: lower(name) in ID_HEADERS)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = bounded.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
