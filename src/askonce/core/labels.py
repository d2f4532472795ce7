"""Labels (scopes, tags, models) and their generation fields, by which many questions are invalidated at once.

A generation field is a 14-bit hash of a label. A collision invalidates too much, never too little.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from askonce.core.providers.bounded import lru_cache_of_short
from askonce.core.providers.patterns import pattern
from askonce.core.wording import as_text, is_list, shown
from askonce.errors import ConfigError

TEXT_MAX = 200  # characters of a scope or of a tag
TAGS_MAX = 64
OTHER = "(other)"  # in savings: what came after a day's table of labels was full, and what is no label


@lru_cache_of_short(8192)
def field(kind: str, text: str, secret: bytes = b"") -> int:
    """The generation field, 0 to 16383, of a ``scope``, ``model`` or ``tag``; keyed, if there is a secret."""
    data = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
    digest = hmac.digest(secret, data, "sha256") if secret else hashlib.sha256(data).digest()
    return int.from_bytes(digest[:2], "big") >> 2


@lru_cache(maxsize=1024)
def scope_paths(scope: str) -> tuple[str, ...]:
    """Every scope that contains this one, itself last: ``a/b`` gives ``a`` and ``a/b``; no scope gives none."""
    steps = scope.split("/") if scope else []
    return tuple("/".join(steps[: depth + 1]) for depth in range(len(steps)))


@lru_cache_of_short(4096)
def fields(scope: str, model: str, tags: tuple[str, ...], secret: bytes = b"") -> tuple[int, ...]:
    """The generation fields of a lookup, sorted, without repeats."""
    found = {field("scope", path, secret) for path in scope_paths(scope)}
    found.update(field("tag", tag, secret) for tag in tags)
    if model:
        found.add(field("model", model, secret))
    return tuple(sorted(found))


def check_scope(scope: object) -> str:
    """The scope, "" for none; ConfigError if it is no path such as ``support/triage/v3``."""
    path = _text(scope, "scope")
    if path and "" in (steps := path.split("/")):
        meant = "/".join(filter(None, steps)) or "support/triage/v3"
        raise ConfigError(f"scope {path!r} has an empty part: write {meant!r}")
    return path


def check_tag(tag: str) -> str:
    """The tag; ConfigError if it is empty, too long or not plain text."""
    if _text(tag, "tag"):
        return tag
    raise ConfigError("a tag is empty: write what the answer depends on, such as 'doc:42', or remove it")


def check_tags(tags: Iterable[str] | bytes) -> tuple[str, ...]:
    """The tags, sorted, without repeats; ConfigError for a text in place of a list, or for more than 64."""
    if tags == ():
        return ()
    found = {check_tag(tag) for tag in listed(tags)}
    if len(found) > TAGS_MAX:
        raise ConfigError(
            f"{len(found)} tags for one answer: write at most {TAGS_MAX}; use tags that many answers share"
        )
    return tuple(sorted(found))


def listed(tags: object) -> tuple[str, ...]:
    """Tags as they are given, unchecked, as a tuple, which is hashable; ConfigError for what is no list of tags."""
    if not is_list(tags):
        raise _no_tags(tags)
    return tuple(tags)


def _no_tags(tags: object) -> ConfigError:
    """The error for what is no list of tags, with what was probably meant as one."""
    one = "doc:42"
    if isinstance(tags, Mapping) and tags:
        one = ":".join(map(shown, next(iter(tags.items())))).replace("'", "")
    elif isinstance(tags, str | bytes):
        one = tags if isinstance(tags, str) else tags.decode("utf-8", "replace")
    return ConfigError(f"tags={shown(tags)} is not a list of tags: write tags=[{shown(one)}]")


_EXAMPLES = {"scope": "support/triage", "tag": "doc:42"}


def _text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise ConfigError(f"a {what} is text, not {type(text).__name__}: {as_text(what, text, _EXAMPLES[what])}")
    if len(text) > TEXT_MAX:
        raise ConfigError(
            f"{what} {text[:20]!r}... has {len(text)} characters: write at most {TEXT_MAX}, shorten or hash it"
        )
    if not (text.isprintable() or all(map(_visible, text))):
        raise ConfigError(f"{what} {shown(text)} contains control characters: remove them")
    return text


def _visible(char: str) -> bool:
    # str.isprintable alone refuses every space but the plain one.
    return not ("\0" <= char < " " or "\x7f" <= char < "\xa0" or "\ud800" <= char <= "\udfff")


# --- what is no label -------------------------------------------------------------------------------------------

_SHAPES = pattern(
    r"(?:sk|pk|rk|ek|gsk|xai|pplx|hf|ghp|gho|ghu|ghs|ghr|github_pat|glpat|npm|dop_v1|shpat|r8|nvapi|lsv2|pcsk|tvly|fc)"
    r"[-_][\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|AIza[\w-]{20,}|ya29\.[\w.-]{10,}|xox[a-z]-[\w-]{8,}|xapp-[\w-]{8,}"
    r"|eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)*"
)
_RUN = pattern(r"[A-Za-z0-9]{16,}")
SCHEME = pattern(r"(?:bearer|basic|token|apikey|api-key|key|negotiate|aws4-hmac-sha256)\s+(\S.*)", re.IGNORECASE)
_UUID = pattern(r"[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}", re.IGNORECASE)


def looks_secret(value: str) -> bool:
    """Whether a whole value looks like a provider's key or token, or like a credential."""
    return bool(_SHAPES.fullmatch(value) or SCHEME.fullmatch(value)) or (
        "-----BEGIN" in value and "PRIVATE KEY-----" in value
    )


def looks_random(text: str) -> bool:
    """Whether part of a text was generated, not written: a long run of letters and digits, a UUID."""
    runs = _RUN.findall(text)
    return any(len(run) >= 24 or not (run.isdigit() or run.isalpha()) for run in runs) or bool(_UUID.search(text))
