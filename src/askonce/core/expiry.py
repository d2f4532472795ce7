"""The end that an answer names: a date of the provider (`expires_at`), or the end of a signed URL.

A date counts where the provider wrote it: in an answer of an API, outside the parts that belong to the caller
(core.providers.sources lists those). A signed URL counts wherever a whole value is one, because it ends for every
holder. Nothing inside a text counts, because a model may mention any date.

All ends are in seconds since 1970. A value that cannot be read as an end is ignored.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import orjson

from askonce.core.providers.answers import snake
from askonce.core.providers.bounded import kept_by_text
from askonce.core.providers.patterns import pattern
from askonce.core.providers.sources import CALLERS, LONGEST_NAME

LONGEST_URL = 16_384  # characters
_NAMES = pattern(r"(?:\w+_)?(?:expire\w*|expir(?:y|ation)\w*)|valid_(?:until|to)|not_after|good_until")
_LASTS = pattern(r"\w*_(?:in|after|seconds)(?:_seconds)?")  # a duration from now, not a date
_MOMENT = 1_000_000_000  # a smaller number is a duration; as a date it is in 2001
_MS = 100_000_000_000  # a larger number is in ms; as seconds it is in 5138


def end_of(answer: object, now: float, *, dates: bool) -> float | None:
    """The earliest end that the answer names, or None. `dates`: date fields count too, not only signed URLs."""
    ends: list[float] = []
    queue = [answer]
    for value in queue:
        if isinstance(value, dict):
            for name, held in value.items():
                kind = _kind(name)
                if kind == "end" and dates and (end := _moment(held, now, lasts=_lasts(name))):
                    ends.append(end)
                if kind != "callers" or not dates:
                    queue.append(held)
        elif isinstance(value, list):
            if not (value and isinstance(value[0], int | float)):  # a vector
                queue += value
        elif isinstance(value, str) and (end := signed_until(value)):
            ends.append(end)
    return min(ends, default=None)


@kept_by_text(4096)
def _kind(name: str) -> str:
    if len(name) > LONGEST_NAME:
        return ""
    name = snake(name)
    return "end" if _NAMES.fullmatch(name) else "callers" if name in CALLERS else ""


def _lasts(name: str) -> bool:
    return bool(_LASTS.fullmatch(snake(name)))


def may_end(names: Iterable[str], body: bytes) -> bool:
    """Whether an answer with these field names, `body` in JSON, may name an end. Most answers need no more."""
    return _ADDRESS.search(body) is not None or "end" in map(_kind, names)


_ADDRESS = pattern(rb"://")  # `in` takes three times as long over text


def _moment(value: object, now: float, *, lasts: bool) -> float | None:
    if isinstance(value, str):
        number = _number(value)
        return dated(value) if number is None else _counted(number, now, lasts=lasts)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return _counted(float(value), now, lasts=lasts)


def _counted(number: float, now: float, *, lasts: bool) -> float | None:
    if lasts or number < _MOMENT:
        return now + number if 0 < number < _MOMENT else None
    return number / 1000 if number >= _MS else number


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\d{1,17}(?:\.\d{1,9})?", text.strip(), re.ASCII) else None


def dated(text: str) -> float | None:
    """A date of ISO 8601 (with or without punctuation) or of RFC 9110, s since 1970; UTC if it names no zone."""
    for read in (datetime.fromisoformat, _mailed):
        try:
            found = read(text.strip()[:64])
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        try:
            return found.timestamp()
        except (ValueError, OverflowError):
            continue
    return None


def _mailed(text: str) -> datetime:
    try:
        from email.utils import parsedate_to_datetime  # late: it imports socket, and few answers name such a date
    except ImportError:  # Python ends, and imports nothing more: what cannot be read is over
        return datetime.fromtimestamp(1, UTC)
    return parsedate_to_datetime(text)


# --- signed URLs -----------------------------------------------------------------------------------------------------

_SIGNATURE = pattern(r"(?:x-[a-z]+-)?(?:signature|sig|sign|hmac|token|hash|hm|q-signature|policy|hdnts|__token__)")
_ENDING = pattern(r"(?:x-[a-z]+-)?(?:expires?|expiry|expiration|exp)|se|ex|valid_?(?:until|to)")
_DATE = pattern(r"x-[a-z]+-date")
_JWT = pattern(r"[\w-]+\.([\w-]+)\.[\w-]*")


def signed_until(text: str) -> float | None:
    """The end of a signed URL, whose query holds a signature and an end; None for any other text."""
    if not text.startswith(("https://", "http://")) or len(text) > LONGEST_URL or "?" not in text:
        return None
    if any(mark in text for mark in (" ", "\n", "<")):
        return None  # a text that begins with a URL
    from urllib.parse import parse_qsl  # late: few answers hold a URL that looks signed

    query = text.partition("?")[2].partition("#")[0]
    try:
        fields = {name.lower(): value for name, value in parse_qsl(query, max_num_fields=100)}
    except ValueError:  # more fields than any signature has
        return None
    if not any(map(_SIGNATURE.fullmatch, fields)):
        return None
    return min(filter(None, (_until(name, value, fields) for name, value in fields.items())), default=None)


def _until(name: str, value: str, fields: Mapping[str, str]) -> float | None:
    if _ENDING.fullmatch(name):
        return _ended(value, fields)
    if name == "q-sign-time":  # Tencent: start;end
        return _number(value.partition(";")[2])
    if name == "policy":  # CloudFront
        return _in_policy(value)
    if name in ("hdnts", "__token__"):  # Akamai
        return _number((re.findall(r"exp=(\d+)", value) or [""])[0])
    if name == "token" and (jwt := _JWT.fullmatch(value)):
        return _number(str(_decoded(jwt[1]).get("exp")))
    return None


def _ended(value: str, fields: Mapping[str, str]) -> float | None:
    number = _number(value)
    if number is None:
        return _hexadecimal(value) or dated(value)
    if number >= _MOMENT:
        return number / 1000 if number >= _MS else number
    # Seconds after the date in another field.
    signed = next((dated(given) for name, given in fields.items() if _DATE.fullmatch(name)), None)
    return None if signed is None else signed + number


def _hexadecimal(value: str) -> float | None:
    return float(int(value, 16)) if re.fullmatch("[0-9a-f]{8}", value) else None  # Discord's


def _in_policy(value: str) -> float | None:
    statements = _decoded(value.translate({ord("-"): "+", ord("_"): "=", ord("~"): "/"})).get("Statement")
    found = re.search(r"'AWS:EpochTime': (\d+)", str(statements))
    return _number(found[1]) if found else None


def _decoded(text: str) -> dict[str, object]:
    plain = text.translate({ord("-"): "+", ord("_"): "/"}).rstrip("=")
    try:
        found = orjson.loads(base64.b64decode(plain + "=" * (-len(plain) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
