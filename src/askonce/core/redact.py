"""A request without its secrets: what may be written to a file that other people read, and what identifies the request.

Structure decides, not a list of dangerous values. In a header or a query, everything is hidden that is not known to be
harmless. In a body these are hidden at any depth: values under a name that suggests a secret, all headers and
environments, the secrets of URLs. Texts of people and models stay, because they are what the request is about.

A hidden secret does not tell two requests apart, because a replay has another secret or none. A value hidden because it
is unknown does, by a short digest.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import orjson

from askonce.core.keys import VEIL
from askonce.core.labels import looks_random, looks_secret
from askonce.core.secrets import credential_name, secret_name, short_digest, telling, traces

HIDDEN = "[hidden]"

_CLEAR_HEADERS = re.compile(  # options of APIs, never credentials
    "anthropic-(?:version|beta|dangerous-direct-browser-access)|openai-(?:beta|version)|(?:x-)?api-version|accept.*|"
    "content-(?:type|language|encoding)|x-amzn-bedrock-(?!guardrailid).*|x-ms-version|prefer|x-goog-api-version|"
    "x-portkey-provider|x-wait-for-model|x-use-cache|cache-control|user-agent"
)
_CLEAR_QUERY = frozenset({"api-version", "api_version", "alt", "beta", "version", "model", "stream", "$alt"})
_SIGNED = re.compile(  # parts of URLs signed for a limited time by AWS, Google, Azure, CloudFront
    r"(?:x-amz|x-goog)-.*|s[vetpir]|spr|srt|ss|sk[a-z]{1,3}|sig|signature|expires|policy|key-pair-id|key|code|state|"
    "hash|hmac|verify|googleaccessid|awsaccesskeyid"
)
_HEADER_MAPS = frozenset(  # maps whose values are headers, or an environment
    {
        *("headers", "header", "extra_headers", "extraheaders", "http_headers", "httpheaders", "default_headers"),
        *("request_headers", "requestheaders", "metadata_headers", "env", "environment", "environment_variables"),
        *("environmentvariables", "env_vars", "envvars", "variables_env", "extra_query", "query_params", "queryparams"),
    }
)
_TEXTS = frozenset(  # what people and models say
    {
        *("content", "text", "input", "prompt", "instructions", "system", "query", "description", "title", "message"),
        *("document", "documents", "suffix", "thinking", "output_text", "inputs", "texts", "messages", "refusal"),
    }
)
_CODES = frozenset({"pin", "otp", "totp", "pwd", "pass"})  # may be numbers
_NAMES = ("name", "key", "header", "variable", "field")
_VALUES = ("value", "values", "val")
_PROPERTIES = frozenset({"properties", "$defs", "definitions", "patternproperties", "dependentschemas"})
_SCHEMA = frozenset({"$ref", "anyOf", "oneOf", "allOf", "properties", "items", "any_of"})
_KINDS = frozenset({"string", "number", "integer", "boolean", "object", "array", "null"})
_EXAMPLES = frozenset({"default", "const", "enum", "example", "examples"})
_URL = re.compile(r"([a-zA-Z][\w+.:-]*)://([^\s/?#]*@)?([^\s/?#]*)([^\s?#]*)(?:\?([^\s#]*))?(?:#(\S*))?")
_LINE = re.compile(r"(\s*-{0,2}([\w.-]{2,64})\s*[:=]\s*)(\S+|(?:bearer|basic|token)\s+\S+)\s*", re.IGNORECASE)
_PAIRS = re.compile(r"([\w .-]{2,40}?)\s*=\s*([^;&]*)(?=[;&]|$)")
_BESIDE = re.compile(
    "(?:type|scheme|kind|method|mode|provider|user|name|email|host|url|region|model|description|scopes?)$"
)
_SIGNS = re.compile("signature|client-?id$|access-?key-?id$")  # parts of a signature; the public id of a secret
_ASSIGNED = re.compile(
    r"([A-Za-z][\w.-]{1,63})([\"']?\s{0,3}[:=]\s{0,3}[\"']?)((?:bearer|basic|token)\s{1,3})?([^\s\"'&;,]{8,})",
    re.IGNORECASE,
)
_INLINE = re.compile(r"[a-zA-Z][\w+.:-]{1,24}://[^\s\"'<>]+")
_LONG = 65_536  # characters; longer texts are not searched
_DEEP = 200


class Redaction:
    """The redaction of one request. `secrets`: the values hidden in it, to be hidden wherever else they occur."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self.secrets: set[str] = set(secrets)

    def headers(self, headers: Sequence[tuple[str, str]]) -> dict[str, str]:
        """The headers that may be shown, credentials left out."""
        visible: dict[str, str] = {}
        for name, value in headers:
            if secret_name(name) or _SIGNS.search(name.lower()) or looks_secret(value):
                self.secrets.add(value)
            else:
                shown = value if _CLEAR_HEADERS.fullmatch(name.lower()) else self._digest(value)
                visible[name.lower()] = f"{visible[name.lower()]}, {shown}" if name.lower() in visible else shown
        return visible

    def place(self, url: str) -> str:
        """The request's own URL, without credentials."""
        return self._url(url, left_out=True)

    def _url(self, url: str, *, left_out: bool = False, inline: bool = False) -> str:
        found = _URL.fullmatch(url)
        if found is None:
            return url
        scheme, user, host, path, query, fragment = found.groups()
        if user:
            self.secrets.update(filter(None, (user[:-1], unquote(user[:-1]), unquote(user[:-1].partition(":")[2]))))
        head = f"{scheme}://{'' if left_out or not user else f'{HIDDEN}@'}{host}"
        visible = [self._piece(piece, left_out=left_out) for piece in re.split("[&;]", query or "") if piece]
        tail = "" if fragment is None else f"#{fragment if left_out else self._hide(fragment)}"
        # In the middle of a text it is part of what is said, and may be said again.
        digest_of = short_digest if inline else self._digest
        steps = [digest_of(step) if looks_random(unquote(step)) else step for step in path.split("/")]
        return f"{head}{'/'.join(steps)}{'?' if any(visible) else ''}{'&'.join(filter(None, visible))}{tail}"

    def _piece(self, piece: str, *, left_out: bool) -> str:
        name, equals, value = piece.partition("=")
        plain = unquote(name)
        if secret_name(plain) or _SIGNED.fullmatch(plain.lower()) or looks_secret(unquote(value)):
            self.secrets.update((value, unquote(value)))
            return "" if left_out else f"{name}={HIDDEN}"
        if plain.lower() in _CLEAR_QUERY or not value:
            return piece if not looks_random(plain) else self._digest(plain)
        return f"{name}{equals}{self._digest(value)}"

    def _digest(self, value: str) -> str:
        if looks_random(value):
            self.secrets.add(value)
        return short_digest(value)

    def body(self, value: Any, depth: int = 0) -> Any:
        """A body, or any part of it, without its secrets."""
        if depth > _DEEP:
            return short_digest(repr(value))
        if isinstance(value, dict):
            return self._dict(value, depth)
        if isinstance(value, list):
            return self._list(value, depth)
        return self._string(value) if isinstance(value, str) else value

    def _dict(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        pair = next((name for name in _NAMES if isinstance(value.get(name), str) and secret_name(value[name])), None)
        return {
            self._name(name): self._hide(one) if pair and name.lower() in _VALUES else self._field(name, one, depth + 1)
            for name, one in value.items()
        }

    def _name(self, name: str) -> str:
        if not looks_secret(name):
            return name
        self.secrets.add(name)
        return HIDDEN

    def _field(self, name: str, value: Any, depth: int) -> Any:
        lower = name.lower()
        if lower in _PROPERTIES and _are_schemas(value):
            return {one: self._schema(one, schema, depth + 1) for one, schema in value.items()}
        if secret_name(name) or (lower == "key" and isinstance(value, str) and looks_random(value)):
            return self._hide(value, numbers=credential_name(name) or lower in _CODES)
        if lower.replace("-", "_") in _HEADER_MAPS:
            return self._header_map(value, depth)
        if lower in _TEXTS and (isinstance(value, str) or _only_texts(value)):
            return value
        return self.body(value, depth)

    def _schema(self, name: str, schema: Any, depth: int) -> Any:
        """The schema of a field whose name suggests a secret: its examples may be secrets."""
        if not secret_name(name):
            return self.body(schema, depth)
        return {
            word: self._hide(value) if word in _EXAMPLES else self._field(word, value, depth + 1)
            for word, value in schema.items()
        }

    def _hide(self, value: Any, *, noted: bool = True, numbers: bool = True, depth: int = 0) -> Any:
        deeper = depth + 1
        if isinstance(value, dict) and depth < _DEEP:
            return {
                HIDDEN if looks_random(name) else name: self._hide(
                    one, noted=noted and not _beside(name), numbers=numbers, depth=deeper
                )
                for name, one in value.items()
            }
        if isinstance(value, list) and depth < _DEEP:
            return [self._hide(one, noted=noted, numbers=numbers, depth=deeper) for one in value]
        if isinstance(value, bool) or (isinstance(value, int | float) and not numbers):
            return value
        if isinstance(value, str):
            self._string(value)  # for a secret of its own inside it
            if noted or looks_random(value):
                self.secrets.add(value)
        return HIDDEN

    def _header_map(self, value: Any, depth: int) -> Any:
        """Headers or an environment: every value is hidden, except those of harmless headers."""
        if isinstance(value, dict):
            return {
                name: one if _clear(name, one) else self._hide(one, noted=secret_name(name))
                for name, one in value.items()
            }
        if isinstance(value, list):
            return [self._entry(one, depth) for one in value]
        return self._entry(value, depth) if isinstance(value, str) else self._hide(value)

    def _entry(self, value: Any, depth: int) -> Any:
        """One of a list of headers: a pair, a dict with a name and a value, or a line."""
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            return [value[0], value[1] if _clear(*value) else self._hide(value[1], noted=secret_name(value[0]))]
        if isinstance(value, dict):
            if value.keys().isdisjoint(_NAMES):
                return self._header_map(value, depth)
            return {
                name: self._hide(one, noted=False) if name.lower() in _VALUES else one
                for name, one in self._dict(value, depth).items()
            }
        return "\n".join(map(self._line, value.splitlines())) if isinstance(value, str) else self._hide(value)

    def _line(self, text: str) -> str:
        name, sign, value = (part.strip() for part in re.split("([:=])", f"{text}:", maxsplit=1))
        if _clear(name, value := value.removesuffix(":").strip()):
            return text
        return f"{name}{sign}{self._hide(value, noted=secret_name(name))}" if value else self._string(text)

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        visible: list[Any] = []
        hide = False  # the value after an option of a command line: --api-key, VALUE
        for one in value:
            visible.append(self._hide(one) if hide else self.body(one, depth + 1))
            hide = isinstance(one, str) and one.startswith("-") and one.isprintable() and secret_name(one)
        return visible

    def _string(self, text: str) -> str:
        if text.startswith(VEIL) or looks_secret(text):
            self.secrets.add(text)
            return HIDDEN
        if text[:1] in "{[" and (inner := _json(text)) is not None:
            visible = self.body(inner)
            return text if visible == inner else orjson.dumps(visible).decode()
        if text.startswith("eyJ") and (inner := _packed(text)) is not None and self.body(inner) != inner:
            self.secrets.add(text)
            return HIDDEN
        if len(text) > _LONG:
            return text
        line = _LINE.fullmatch(text)
        if line and secret_name(line[2]) and (credential_name(line[2]) or text[:1] == "-" or telling(line[3])):
            self.secrets.add(line[3])
            return f"{line[1]}{HIDDEN}"
        if _URL.fullmatch(text):
            return self._url(text)
        text = _INLINE.sub(lambda url: self._url(url[0], inline=True), text) if "://" in text else text
        text = self._pairs(text) if "=" in text and ";" in text else text
        return _ASSIGNED.sub(self._assigned, text)

    def _assigned(self, found: re.Match[str]) -> str:
        """A secret in the middle of a command, script or form."""
        if not secret_name(found[1]) or not telling(found[4]) or HIDDEN in found[4]:
            return found[0]
        self.secrets.add(found[4])
        return f"{found[1]}{found[2]}{found[3] or ''}{HIDDEN}"

    def _pairs(self, text: str) -> str:
        def visible(pair: re.Match[str]) -> str:
            if not secret_name(pair[1]) or not pair[2]:
                return pair[0]
            self.secrets.add(pair[2])
            return f"{pair[1]}={HIDDEN}"

        return _PAIRS.sub(visible, text)

    def elsewhere(self, value: Any) -> Any:
        """A value, with its texts, without the secrets found so far."""
        ways = traces(self.secrets)
        return _without(value, lambda text: _cleared(text, ways)) if ways else value


def _cleared(text: str, ways: Sequence[str]) -> str:
    for way in ways:
        if way in text:
            text = text.replace(way, HIDDEN)
    return text


def _without(value: Any, clear: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clear(value)
    if isinstance(value, dict):
        return {clear(name): _without(one, clear) for name, one in value.items()}
    return [_without(one, clear) for one in value] if isinstance(value, list) else value


def _beside(name: str) -> bool:
    """Whether a value with this name is hidden only beside a secret, and shown elsewhere."""
    return bool(_BESIDE.search(name.lower()))


def _clear(name: str, value: object) -> bool:
    return isinstance(value, str) and bool(_CLEAR_HEADERS.fullmatch(name.lower())) and not looks_secret(value)


def _only_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_schemas(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(map(_is_schema, value.values()))


def _is_schema(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    kinds = value.get("type")
    named = kinds if isinstance(kinds, list) else [kinds]
    return not _SCHEMA.isdisjoint(value) or all(str(kind).lower() in _KINDS for kind in named)


def _packed(text: str) -> Any:
    """The JSON that a text holds in base64."""
    try:
        return _json(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode())
    except (binascii.Error, ValueError):
        return None


def _json(text: str) -> Any:
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, (dict, list)) else None
