"""An answer without secrets: the same bytes with stars in places, so that parts, events and lengths stay the same.

A value hidden in the request is hidden wherever the answer repeats it, in any usual spelling. A secret of the
upstream's own is hidden where its name leaves no doubt. What a model says is the answer and stays: texts, and the
arguments of its calls.

Of the headers, only those known to be harmless stay, and numbers.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence

from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.redact import HIDDEN, Redaction
from askonce.core.secrets import credential_name, secret_name

_CLEAR = re.compile(
    "content-(?:type|length|encoding|language|disposition|range)|date|server|age|vary|etag|expires|last-modified|"
    r"cache-control|pragma|allow|retry-after.*|(?:.*-)?request-?id|.*-correlation-id|x-amzn-trace-id|cf-ray|"
    "cf-cache-status|x-cache|via|openai-(?:version|model)|.*ratelimit.*|.*rate-limit.*|x-should-retry|x-ms-region|"
    "x-groq-region|x-amzn-bedrock-.*|x-litellm-(?:version|model-id|model-group|call-id)|access-control-.*|"
    "x-content-type-options|x-frame-options|x-xss-protection|referrer-policy|strict-transport-security|connection|"
    "keep-alive|transfer-encoding|x-robots-tag|anthropic-(?:version|priority.*)|warning|deprecation|sunset"
)
_PLACES = frozenset({"location", "content-location"})  # a replay follows them
_UNCLEAR = re.compile(r"[\s#]")
_NUMBER = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?(?:ms|s|us)?|true|false")
_SAID = frozenset(  # said by a model; programs act on it
    {
        *(b"arguments", b"args", b"input", b"partial_json", b"parsed", b"logprobs", b"top_logprobs"),
        *(b"logprobsResult", b"logprobs_result", b"content", b"text", b"output_text", b"parameters"),
    }
)
_BAGS = frozenset({b"headers", b"http_headers", b"extra_headers", b"env", b"environment"})
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|[{}\[\],]', re.DOTALL)
_INNER = re.compile(rb'("bytes"\s*:\s*")([A-Za-z0-9+/=]+)(")')
_SHORTEST = 16  # bytes of a frame of AWS: two lengths, two checksums
_LINE = re.compile(rb"^(?:data:)?[ \t]*([{\[].*)$", re.MULTILINE)


def clear_header(name: str, value: str) -> bool:
    """Whether a response header may be shown."""
    lower = name.lower()
    if secret_name(lower) or "set-cookie" in lower:
        return False
    if lower in _PLACES:
        return _clear_place(value)
    return bool(_CLEAR.fullmatch(lower) or _NUMBER.fullmatch(value))


def _clear_place(value: str) -> bool:
    """Whether the URL of a redirect would be shown as it is in the request that follows it."""
    url = value if "://" in value else f"https://host/{value}"
    return not _UNCLEAR.search(url) and Redaction().place(url) == url


def reply_headers(headers: Iterable[Sequence[str]], ways: Sequence[str]) -> list[list[str]]:
    """The headers of an answer that may be shown; `ways`: spellings of what was hidden (secrets.traces)."""
    visible = []
    for name, value in headers:
        shown = value if clear_header(name, value) else HIDDEN
        for way in ways:
            shown = shown.replace(way, HIDDEN)
        visible.append([name, shown])
    return visible


def starred(body: bytes, ways: Sequence[str]) -> bytes:
    """A redacted body of the same length; JSON, events or neither."""
    for way in ways:
        raw = way.encode("utf-8", "surrogatepass")
        if raw in body:
            body = body.replace(raw, b"*" * len(raw))
    spans = [span for start, text in _documents(body) for span in _spans(text, start)]
    if not spans:
        return body
    made = bytearray(body)
    for start, end in spans:
        made[start:end] = b"*" * (end - start)
    return bytes(made)


def starred_frames(body: bytes, ways: Sequence[str]) -> bytes:
    """A redacted body of AWS frames: base64 inside is redacted too, and the checksums are corrected."""

    def inner(found: re.Match[bytes]) -> bytes:
        try:
            text = base64.b64decode(found[2], validate=True)
        except binascii.Error:
            return found[0]
        return found[1] + base64.b64encode(starred(text, ways)) + found[3]

    made, at = bytearray(body), 0
    while at + _SHORTEST <= len(made):
        size, headers = (int.from_bytes(made[at + skip : at + skip + 4], "big") for skip in (0, 4))
        start, end = at + 12 + headers, at + size - 4
        if not at < start <= end <= len(made) - 4:
            break
        payload = bytes(made[start:end])
        if (redacted := _INNER.sub(inner, starred(payload, ways))) != payload:
            made[start:end] = redacted
            made[end : end + 4] = zlib.crc32(made[at:end]).to_bytes(4, "big")
        at = end + 4
    return bytes(made)


def _documents(body: bytes) -> Iterator[tuple[int, bytes]]:
    """The JSON in a body, with its places: the whole body, or the data of events line by line."""
    if body.lstrip()[:1] in (b"{", b"["):
        yield 0, body
        return
    for found in _LINE.finditer(body):
        yield found.start(1), found[1]


class _Open(NamedTuple):
    """A container around the current place. `hides`: its texts are secrets; `said`: a model says them."""

    named: bool
    hides: bool
    said: bool
    bag: bool


def _spans(text: bytes, offset: int) -> Iterator[tuple[int, int]]:
    above = [_Open(named=False, hides=False, said=False, bag=False)]
    name, awaits = b"", False  # a name in an object
    for token in _TOKEN.finditer(text):
        sign, top = token[0][:1], above[-1]
        if sign == b'"':
            if top.named and awaits:
                name, awaits = token[1], False
            elif not top.said and (top.hides or (top.named and _hides(name, top))):
                yield offset + token.start(1), offset + token.end(1)
        elif sign == b",":
            awaits = top.named
        elif sign in b"{[":
            above.append(_opened(sign == b"{", name if top.named else b"", top))
            awaits = sign == b"{"
        elif len(above) > 1:
            above.pop()
            awaits = False


def _opened(named: bool, name: bytes, top: _Open) -> _Open:
    said = top.said or name in _SAID
    return _Open(named, top.hides or (bool(name) and _hides(name, top)), said, name in _BAGS)


def _hides(name: bytes, top: _Open) -> bool:
    text = name.decode("utf-8", "replace")
    return not _CLEAR.fullmatch(text.lower()) if top.bag else credential_name(text)
