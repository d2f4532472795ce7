"""A Key: the digest of a question.

Two questions are equal if their canonical bodies are the same bytes: keys sorted, Unicode unescaped, no whitespace,
integral floats below 2**53 as integers. Every other value stays exact. A value without an exact form is refused, with
its place (orjson alone would write NaN as null). One rule decides every doubt: one question under two keys costs a
second call, two questions under one key cost a wrong answer.

orjson does the writing. Its bytes are canonical already, unless the request holds a type of its own, or a float that is
integral, not finite, or of a size that orjson's versions write differently (`_is_canonical` looks, in one flat pass).
Only then, or when orjson refuses, is the request rebuilt value by value. json writes what orjson cannot: integers
beyond 64 bits and lone surrogates.

The digest is SHA-256 over parts. Each part follows its length, so no two lists of parts give the same bytes. The hash
state of the leading parts, which repeat between calls, is kept and copied.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import orjson

from askonce.core.providers import bounded
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern
from askonce.core.pydantic_dumps import Undumped, complete, secret
from askonce.core.wording import shown
from askonce.errors import ConfigError, RequestError

if TYPE_CHECKING:
    from hashlib import _Hash

FORMAT = 1  # of keys; a change of any rule here changes this number
Form = Literal["v", "j", "s"]  # a value, JSON over HTTP, a stream

VEIL = "secret:"  # before the digest that replaces a secret
RAW = b"raw\0"  # before a body keyed by its own bytes; no canonical JSON starts so
EXACT = 2**53  # the first integer whose neighbour is the same double
SMALL, LARGE = 1e-4, 1e16  # between them every orjson writes a float as repr does; outside, repr's form is used
LONG = 32  # a longer list is checked before it is walked

_HEX = pattern("[0-9a-fA-F]{64}")


class Key(NamedTuple):
    """The 32-byte digest of a question, and the form of the wanted answer."""

    # Not a frozen dataclass: a NamedTuple costs half as much to make and is five times as fast in a dict.
    digest: bytes
    form: Form = "v"

    @property
    def text(self) -> str:
        """The 64 lowercase hex digits that users see."""
        return self.digest.hex()

    @property
    def name(self) -> bytes:
        """The name of its entry, lease, notices and notes in a store."""
        return self.digest + self.form.encode()

    @classmethod
    def parse(cls, text: object) -> Key:
        """The key of `text`, a value of outcome.key; ConfigError for anything but 64 hex digits."""
        if isinstance(text, str) and (found := _HEX.fullmatch(text)):
            return cls(bytes.fromhex(found[0]))
        raise ConfigError(f"{shown(text)} is not a key: pass outcome.key, which is 64 hex digits, or use request=")


# --- the canonical body ------------------------------------------------------------------------------------------


def canonical(request: object) -> bytes:
    """The canonical JSON of a JSON-like request; RequestError names the place of a value that has none."""
    try:
        body = orjson.dumps(request, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        return _rebuilt(request)
    return body if _is_canonical(request) else _rebuilt(request)


def plain(body: bytes) -> Any:
    """A canonical body as plain JSON types, with numbers and text exact."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # integers beyond 64 bits, lone surrogates
        return json.loads(body.decode("utf-8", "surrogatepass"))


def canonical_fields(body: dict[str, object], raw: bytes, drop: Collection[str]) -> bytes:
    """The canonical JSON of an HTTP body (`parsed`) without its top-level fields `drop`; if it has none, `raw`, marked.

    The fields are removed from `body` itself.
    """
    for name in drop:
        body.pop(name, None)
    try:
        return canonical(body)
    except RequestError:  # nested too deep
        return RAW + raw


def _is_canonical(request: Any) -> bool:
    # Not a search of orjson's bytes for ".0" and "null": on 2 KB two searches cost 2.7 us and this walk 0.5, and a
    # prompt that says "Python 3.0" is not taken for a float.
    queue = [request]
    for value in queue:
        kind = type(value)
        if kind is str:
            continue
        if kind is dict:
            queue += value.values()
        elif kind is list or kind is tuple:
            queue += value if len(value) < LONG else _branches(value)
        elif kind is float:
            if value.is_integer() or not SMALL <= abs(value) < LARGE:
                return False
        elif kind not in _LEAVES:
            return False
    return True


_LEAVES = frozenset({str, int, bool, type(None)})


def _branches(values: Sequence[object]) -> Sequence[object]:
    # Lists of tokens are long: one pass in C replaces thousands of turns of the loop above.
    return () if _LEAVES.issuperset(map(type, values)) else values


def _written(plain: object, *, by_json: bool = False) -> bytes:
    if not by_json:
        try:
            return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            pass
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


class _Refused(Exception):
    """A value without an exact JSON form; its path is built on the way up, so that a good walk costs nothing."""

    def __init__(self, message: str) -> None:
        self.message = message
        self.path: list[object] = []


class _Walk:
    """The state of a rebuild: the open containers above the current value, and whether json must write the result."""

    __slots__ = ("above", "by_json")

    def __init__(self) -> None:
        self.above: set[int] = set()
        self.by_json = False


def _rebuilt(request: object) -> bytes:
    walk = _Walk()
    try:
        return _written(_plain(request, walk), by_json=walk.by_json)
    except _Refused as refused:
        path = "".join(map(_step, reversed(refused.path)))
        raise RequestError(refused.message, f"${path}") from None
    except RecursionError:
        raise RequestError("nested too deep to be written as JSON: flatten it") from None
    except ValueError:  # Python writes no number of thousands of digits
        raise RequestError("a number in it has too many digits: write it as text") from None


def _step(step: object) -> str:
    return f".{step}" if isinstance(step, str) and step.isidentifier() else f"[{shown(step)}]"


def _plain(value: Any, walk: _Walk) -> object:
    kind = type(value)
    if kind in _LEAVES:
        return value
    if kind is float:
        return _number(value, walk)
    if id(value) in walk.above:
        raise _Refused("refers to itself: pass a copy without the cycle")
    walk.above.add(id(value))
    plain = _branch(value, walk) if isinstance(value, (dict, list, tuple)) else _plain(_converted(value), walk)
    walk.above.discard(id(value))
    return plain


def _number(value: float, walk: _Walk) -> float:
    if not math.isfinite(value):
        raise _Refused(f"{value} has no JSON form: leave the field out, or write None")
    if value.is_integer() and abs(value) < EXACT:
        return int(value)
    walk.by_json |= not SMALL <= abs(value) < LARGE
    return value


def _branch(value: dict[Any, Any] | list[Any] | tuple[Any, ...], walk: _Walk) -> object:
    at: object = None
    plain: dict[object, object] = {}
    try:
        if isinstance(value, dict):
            for at, item in value.items():
                plain[_name(at)] = _plain(item, walk)
            return plain
        for at, item in enumerate(value):
            plain[at] = _plain(item, walk)
        return list(plain.values())
    except _Refused as refused:
        refused.path.append(at)
        raise


def _name(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise _Refused(f"the key {shown(key)} is not text: write str(key)")


def _converted(value: Any) -> object:
    """What orjson and pydantic make of a value of another type."""
    for kinds, convert in _CONVERSIONS:
        if isinstance(value, kinds):
            return convert(value)
    if secret(value):
        return _secret_digest(value.get_secret_value())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Includes underscored fields, which orjson omits: whatever a question holds belongs in its key.
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    try:
        if not isinstance(value, type) and callable(dump := getattr(value, "model_dump", None)):
            return complete(dump(mode="json"), value)
        return orjson.loads(orjson.dumps(value))  # dates, times, UUIDs
    except Undumped as unsaid:
        name, kind = unsaid.args
        raise _Refused(
            f"{name} is not in the dump of this {type(value).__name__}, still counts in the key, and has no JSON form "
            f"({kind}): pass model.model_dump(mode='json') if it cannot change the answer"
        ) from None
    except Exception:  # noqa: BLE001  # a model's own serializer may raise anything
        named = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise _Refused(f"{named} has no JSON form: {_remedy(value)}") from None


def _secret_digest(value: object) -> str:
    """The text that replaces a secret: it tells two secrets apart and reveals neither."""
    walk = _Walk()
    kept = b"bytes\0" + value if isinstance(value, bytes) else _written(_plain(value, walk), by_json=walk.by_json)
    return f"{VEIL}{hashlib.sha256(kept).hexdigest()}"


_CONVERSIONS: tuple[tuple[type, Callable[[Any], object]], ...] = (
    (Enum, lambda value: value.value),  # before str and int, which an Enum may be too
    (str, str.__str__),
    (int, int),
    (float, float),
    (Mapping, dict),
)


def _remedy(value: object) -> str:
    if isinstance(value, type):
        return _schema(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "write base64.b64encode(data).decode()"
    if isinstance(value, (set, frozenset)):
        return "write sorted(values)"
    return "pass dicts, lists, text, numbers, dataclasses or pydantic models, and anything else as variant="


def _schema(kind: type) -> str:
    """How to write out the schema of a class; SDKs take a class for it, as in response_format."""
    if callable(getattr(kind, "model_json_schema", None)):
        return f"pass {kind.__name__}.model_json_schema()"
    return f"pass its JSON schema, such as pydantic.TypeAdapter({kind.__name__}).json_schema()"


# --- a body from the wire ----------------------------------------------------------------------------------------


class _Inexact(ValueError):
    """Parsing would change this body: a repeated name, a number that does not survive."""


_DIGITS = bytes(0x30 if 0x30 <= byte < 0x3A else 0x20 for byte in range(256))


def parsed(raw: bytes) -> dict[str, object] | None:
    """The JSON object of a body; None if parsing would lose part of it."""
    try:
        body = bounded.loads(raw)
        if type(body) is not dict:
            return None
        if _round_trips(body, raw):
            return body
        if bounded.crowded(raw):
            return None
        return json.loads(raw, object_pairs_hook=_unique, parse_int=_integer, parse_float=_exact_float)  # type: ignore[no-any-return]
    except (ValueError, TypeError, ArithmeticError, RecursionError):
        return None


def _round_trips(body: object, raw: bytes) -> bool:
    # Written back to the same bytes: no name came twice, and every number survived. Sixteen digits in a row may be an
    # integer beyond 2**53. SDKs write as orjson does, so only other bodies take the slow exact parse.
    return orjson.dumps(body) == raw and b"0" * 16 not in raw.translate(_DIGITS)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise _Inexact
    return made


def _integer(text: str) -> int:
    # Refused although Python keeps it exact: an upstream that reads doubles sees another number.
    if len(text) > 17 or abs(number := int(text)) > EXACT:
        raise _Inexact
    return number


def _exact_float(text: str) -> float:
    from decimal import Decimal  # most processes never need it

    number = float(text)
    if Decimal(text) != Decimal(repr(number)):
        raise _Inexact
    return number


# --- the digest --------------------------------------------------------------------------------------------------


def digest(
    *,
    prefix: str,
    tenant: str,
    scope: str,
    variant: int | str,
    upstream: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes,
) -> bytes:
    """The 32-byte name of a question. Variant 2 equals variant "2"; the order of headers does not count."""
    # str() here, because the lru_cache of _leading takes True and 1 for one variant.
    short = len(upstream) <= bounded.SHORT and all(len(value) <= bounded.SHORT for _, value in headers)
    leading = _leading if short else _leading.__wrapped__
    return _ended(leading(tuple(headers), prefix, tenant, scope, str(variant), upstream), body)


def digester(*, prefix: str, tenant: str, scope: str, variant: int | str) -> Callable[[bytes], bytes]:
    """`digest` for many bodies of questions that do not come by HTTP."""
    return partial(_ended, _leading((), prefix, tenant, scope, str(variant), ""))


def _ended(leading: _Hash, body: bytes) -> bytes:
    state = leading.copy()
    state.update(len(body).to_bytes(8, "big"))
    state.update(body)
    return state.digest()


@lru_cache(maxsize=1024)
def _leading(headers: tuple[tuple[str, str], ...], *names: str) -> _Hash:
    lines = sorted(((name.lower(), value) for name, value in headers), key=lambda line: line[0])
    flat = [text for line in lines for text in line]
    return hashlib.sha256(b"".join(map(_part, (str(FORMAT), *names, str(len(lines)), *flat))))


def _part(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    return len(data).to_bytes(8, "big") + data
