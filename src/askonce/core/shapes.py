"""Shapes of a text: what is left of it when a difference of one kind is taken away.

Two texts with one shape differ only in that kind: in numbers, dates and ids, in case and spaces, in their Unicode form.
A shape is only ever digested.
"""

from __future__ import annotations

import unicodedata

from askonce.core.providers.patterns import pattern

LONGEST = 65_536  # characters of a text that has shapes of its own
STEP = 32  # characters that are looked at in one step

_MONTHS = "jan feb mar apr may jun jul aug sep sept oct nov dec january february march april june july august september"
_DAYS = "mon tue tues wed thu thur thurs fri sat sun monday tuesday wednesday thursday friday saturday sunday"
_DATES = frozenset(f"{_MONTHS} october november december {_DAYS} am pm utc gmt".split())
_NUMBER = pattern(r"\d[^\W_]*")
_AFTER = pattern(r"[ ,./-]{1,2}([^\W\d_]{2,9})(?![^\W_])")  # a word behind a number: 25 November
_HEX = pattern(r"-([0-9a-fA-F]{12}|[0-9a-fA-F]{8}|[0-9a-fA-F]{4})(?![^\W_])")  # a part of a UUID
_GAPS = frozenset((".", ":"))
_INVISIBLE = pattern("[\u00ad\u200b-\u200f\u2060\ufe00-\ufe0f\ufeff]")


def without_numbers(text: str) -> str:
    """The text with numbers, dates and ids masked: texts that become equal differ only in those."""
    if len(text) > LONGEST:
        return text
    kept: list[str] = []
    last = 0
    # From digit to digit, and not by one expression for a word with a digit: that would try every word of a prompt.
    for found in _NUMBER.finditer(text):
        if found.start() >= last:
            start, end = _before(text, found.start(), last), _behind(text, found.end())
            between = text[last:start]
            kept += () if kept and between in _GAPS else (between, "0")
            last = end
    return "".join((*kept, text[last:]))


def _before(text: str, at: int, least: int) -> int:
    """Where a number's word begins, with the dates' names and the parts of a UUID before it."""
    start = _begin(text, at, least)
    while start > least:
        gap = next((size for size in (1, 2) if text[start - size - 1 : start - size].isalnum()), 0)
        word = _begin(text, start - gap, least) if gap and start - gap > least else start
        named = text[word : start - gap]
        joint = text[start - gap : start]
        dated = named.lower() in _DATES and set(joint) <= set(" ,./-")
        part = joint == "-" and _HEX.fullmatch(f"-{named}") is not None
        if word == start or not (dated or part):
            return start
        start = word
    return start


def _begin(text: str, at: int, least: int) -> int:
    while at - STEP >= least and text[at - STEP : at].isalnum():  # ids and Base64 are long words
        at -= STEP
    while at > least and text[at - 1].isalnum():
        at -= 1
    return at


def _behind(text: str, at: int) -> int:
    """Where a number ends, with the dates' names and the parts of a UUID behind it."""
    while True:
        dated = _AFTER.match(text, at)
        part = _HEX.match(text, at)
        if dated and dated[1].lower() in _DATES:
            at = dated.end()
        elif part:
            at = part.end()
        else:
            return at


def without_form(text: str) -> str:
    """The text in one Unicode form, without invisible characters."""
    if text.isascii() or len(text) > LONGEST:
        return text
    return unicodedata.normalize("NFKC", _INVISIBLE.sub("", text))


def without_case(text: str) -> str:
    """The text without case and spaces. `text` is in one Unicode form."""
    return text if len(text) > LONGEST else "".join(text.casefold().split())
