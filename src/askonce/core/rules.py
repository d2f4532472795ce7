"""Rules: what an operator knows about requests and no built-in table can know.

A cache has rules, and a client of it may add to them. Rules are checked once, when they are given; everything that
reads requests gets the checked value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase, translate
from typing import Any, Literal, TypedDict, get_args

from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern
from askonce.core.wording import is_list, plain_function, shown
from askonce.errors import ConfigError

Fold = Literal["case", "space", "punctuation"]
FOLDS: tuple[Fold, ...] = get_args(Fold)


class RuleWords(TypedDict, total=False):
    """The keywords of a cache or client that are rules; without them, there are none.

    `ignore_headers`: request headers that cannot change an answer, as globs. `same_as`: hosts that are one upstream.
    `normalize`: a function that makes the value of which the key is made. `fold`: differences of the last user text
    that do not count (``case``, ``space``, ``punctuation``). `inert`: fields of requests of which only the words can
    change an answer.
    """

    ignore_headers: Iterable[str]  # request headers that cannot change an answer; globs, "x-turn-*", "cookie:affinity"
    same_as: Mapping[str, str]  # hosts that are one upstream: {"llm.internal": "api.openai.com"}
    normalize: Callable[[Any], Any] | None  # makes the value of which the key is made, from a request
    fold: Iterable[Fold]  # differences in the last user text that do not count: case, space, punctuation
    inert: Iterable[str]  # top-level fields of requests of which only the words can change an answer


RULE_WORDS = frozenset(RuleWords.__annotations__)


class Rules(NamedTuple):
    """The checked rules of one cache or client."""

    ignore_headers: tuple[str, ...] = ()
    same_as: Mapping[str, str] = {}
    normalize: Callable[[Any], Any] | None = None
    fold: tuple[str, ...] = ()
    inert: frozenset[str] = frozenset()

    @classmethod
    def of(cls, words: Mapping[str, Any]) -> Rules:
        """Rules from the keywords in RuleWords; ConfigError for an invalid one."""
        fold = _texts("fold", words.get("fold", ()))
        if unknown := set(fold) - set(FOLDS):
            raise ConfigError(f"fold={sorted(unknown)!r}: write any of {', '.join(FOLDS)}")
        return cls(
            tuple(map(_glob, _texts("ignore_headers", words.get("ignore_headers", ())))),
            _hosts({} if words.get("same_as") is None else words["same_as"]),
            _function(words.get("normalize")),
            fold,
            frozenset(_texts("inert", words.get("inert", ()))),
        )

    def over(self, outer: Rules) -> Rules:
        """These rules added to the outer ones; the inner function replaces the outer one."""
        return Rules(
            (*outer.ignore_headers, *self.ignore_headers),
            {**outer.same_as, **self.same_as},
            self.normalize or outer.normalize,
            tuple(dict.fromkeys((*outer.fold, *self.fold))),
            outer.inert | self.inert,
        )


NO_RULES = Rules()


# --- headers -----------------------------------------------------------------------------------------------------

COOKIE = "cookie:"  # before a glob for cookie names
NAMES = 1024  # that are remembered
_CHARACTERS = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"  # of the names of headers and cookies
_ELEMENT = pattern(r"\[!?\]?[^\]]*\]|.", re.DOTALL)  # a class of characters, or one character
_GLOB = pattern(r"[*?[]")


class Ignored:
    """The names (lower case) that globs leave out, as a container: of headers, and of cookies as ``cookie:name``."""

    def __init__(self, globs: Iterable[str]) -> None:
        given = tuple(globs)
        self._headers = _any_of(one for one in given if not one.startswith(COOKIE))
        self._cookies = _any_of(one for one in given if one.startswith(COOKIE))
        self._known: dict[object, bool] = {}

    def __contains__(self, name: object) -> bool:
        found = self._known.get(name)
        if found is None:
            if len(self._known) >= NAMES:
                self._known.clear()
            globs = self._cookies if str(name).startswith(COOKIE) else self._headers
            found = self._known[name] = globs.fullmatch(str(name)) is not None
        return found


def _any_of(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)) or r"(?!)")


def _glob(given: str) -> str:
    """A glob in lower case; ConfigError if it matches nothing, or nothing that may be left out."""
    from askonce.core.headers import CREDENTIAL_HEADERS  # late: a large table, of HTTP alone

    glob = given.lower()
    name = glob.removeprefix(COOKIE)
    for element in _ELEMENT.findall(name) or [name]:
        if not any(fnmatchcase(one, element) for one in _CHARACTERS):
            raise ConfigError(
                f"ignore_headers: {given!r} can match nothing, because of {element!r}: write names of headers or globs,"
                " such as 'x-turn-*', and cookies as 'cookie:affinity'"
            )
    if glob == "cookie":
        raise ConfigError("ignore_headers: name the cookies that no answer depends on, such as 'cookie:affinity'")
    if glob in CREDENTIAL_HEADERS:
        raise ConfigError(
            f"ignore_headers: {given!r} is a credential: name a tenant to share answers, as in tenant='us'"
        )
    if glob.startswith("askonce-") or (glob == "cache-control" and not _GLOB.search(glob)):
        raise ConfigError(
            f"ignore_headers: {given!r} speaks to askonce and is in no key: remove it from ignore_headers"
        )
    return glob


_EXAMPLES = {"ignore_headers": "x-turn-*", "fold": "case", "inert": "tracing"}


def _texts(name: str, given: object) -> tuple[str, ...]:
    if not is_list(given):
        example = given if isinstance(given, str) and given else _EXAMPLES.get(name, "name")
        raise ConfigError(f"{name}={shown(given)}: write a list of names, [{shown(example)}]")
    texts = tuple(given)
    if wrong := [one for one in texts if not isinstance(one, str) or not one]:
        raise ConfigError(f"{name}: {shown(wrong[0])} is not a name: write text, [{_EXAMPLES.get(name, 'name')!r}]")
    return texts


def _hosts(given: object) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigError(f"same_as={shown(given)}: write a dict of hosts, {{'llm.internal': 'api.openai.com'}}")
    for pair in given.items():
        if wrong := [one for one in pair if not isinstance(one, str) or not one or "/" in one]:
            raise ConfigError(
                f"same_as: {shown(wrong[0])} is not a host: write it without scheme and path, as 'api.openai.com'"
            )
    hosts = {host.lower(): meant.lower().removesuffix(":443") for host, meant in given.items()}
    for host in hosts:
        _ends(host, hosts)
    return hosts


def _ends(host: str, hosts: Mapping[str, str]) -> None:
    seen = [host]
    while (meant := hosts.get(seen[-1])) is not None:
        if meant in seen:
            raise ConfigError(f"same_as: {' is '.join([*seen, meant])}: name one host as the target of all others")
        seen.append(meant)


def _function(given: object) -> Callable[[Any], Any] | None:
    if given is None:
        return None
    if not plain_function(given):
        raise ConfigError(
            f"normalize={shown(given)}: write a plain function, not an async one, that takes the request and returns"
            " what counts in the key"
        )
    return given
