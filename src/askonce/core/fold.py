"""Differences in the last user text that an operator declares meaningless: case, space, punctuation.

Each rule is narrow, because folding a difference that matters gives a wrong answer. Case is folded by Unicode's
caseless matching. Space is any run of white space, and white space at either end. Punctuation is: marks and quotes at
the end of a word; quotes and inverted marks before one; the shape of an apostrophe, quote or dash. A mark still counts
inside a word or number (`1.5`, `a.b`, `we're`), alone (`..`, `!`), and after a number where it is an operator or a unit
(`5!`, `6"`). Brackets, operators and signs (`C#`, `-5`, `50%`) count everywhere.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence
from typing import Any

from askonce.core.providers.patterns import pattern

__all__ = ["VERSION", "fold_text", "folded"]

VERSION = 1  # of these rules; part of every key they make


def fold_text(text: str, folds: Collection[str]) -> str:
    """The text without differences of these kinds."""
    if "punctuation" in folds:
        text = _punctuated(text)
    if "space" in folds:
        text = " ".join(text.split())
    if "case" in folds:
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", text).casefold())
    return text


# --- punctuation -------------------------------------------------------------------------------------------------

_DRAWN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\uff07", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\uff02", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015", "-"),
        "\u2026": "...",
    }
)
_IDEOGRAPHIC = "\u3001\u3002\uff01\uff0c\uff0e\uff1a\uff1b\uff1f\uff61\uff64"
_MARKS = (
    ".,;:!?\u203c\u2047\u2048\u2049\u037e"
    "\u060c\u061b\u061f\u06d4"  # Arabic, Urdu
    "\u0964\u0965\u0589\u055c\u055e\u1362\u1363\u1364\u1365\u1366\u1367\u17d4\u17d5"  # Devanagari ... Khmer
    + _IDEOGRAPHIC
)
_QUOTES = "\"'\u00ab\u00bb\u2039\u203a\u300c\u300d\u300e\u300f\u300a\u300b\u3008\u3009"
_AFTER = pattern(rf"(?<=[^\s{_MARKS}{_QUOTES}])\s?[{_MARKS}{_QUOTES}]+(?=\s|\Z)")
_BEFORE = pattern(rf"(?<!\S)[\u00bf\u00a1{_QUOTES}]+(?=[^\s{_MARKS}{_QUOTES}])")
_BETWEEN = pattern(rf"(?<=[^\W\d_a-zA-Z])[{_IDEOGRAPHIC}]+(?=[^\W\d_a-zA-Z])")
_ASKED = pattern(r"(?:\s+\?)+\s*\Z")  # some writers set it apart at the very end


def _punctuated(text: str) -> str:
    text = _BETWEEN.sub("", text.translate(_DRAWN))
    return _BEFORE.sub("", _AFTER.sub(_after, _ASKED.sub("", text)))


def _after(found: re.Match[str]) -> str:
    """What is left of the marks after a word: none, unless they may be an operator or a unit, or stand apart."""
    marks, text, at = found[0], found.string, found.start()
    # French sets a mark after a thin or unbreakable space; any other space sets the mark apart.
    if marks[0].isspace() and marks[0] not in "\u00a0\u202f":
        return marks
    last = text[at - 1]
    alone = at < 2 or not text[at - 2].isalnum()
    operator = "!" in marks and (last.isdigit() or last == ")" or alone)
    unit = last.isdigit() and ("'" in marks or '"' in marks)
    quoted = max(map(marks.count, _PAIRED)) > 1 or any(quote in marks for quote in _OPENING)
    return marks if operator or unit or quoted else ""


_PAIRED = "'\""
_OPENING = "\u00ab\u2039\u300c\u300e\u300a\u3008"  # at the end of a word, these quote a mark


# --- where the last user text is ---------------------------------------------------------------------------------


def folded(request: Any, folds: Collection[str]) -> Any | None:
    """A copy of the request, the last user text of `messages`, `contents` or `input` folded; None if it has none."""
    if not isinstance(request, dict):
        return None
    for name in ("messages", "contents", "input"):
        if name == "input" and _embeds(request):
            continue
        value, fold = request.get(name), functools.partial(fold_text, folds=folds)
        found = _turn(value, fold) if isinstance(value, dict) else _last(value, fold, texts=name == "contents")
        if found is not None:
            return {**request, name: found}
    return None


Fold = Callable[[str], str]
_OTHERS = ("encoding_format", "dimensions", "input_type", "task", "voice", "response_format")
_EMBEDDER = pattern(r"embed|moderation|\b(?:bge|e5|gte|voyage|minilm)\b", re.IGNORECASE)


def _embeds(request: dict[str, Any]) -> bool:
    """Whether `input` is text to embed, speak or moderate, where case and marks are the subject."""
    return not request.keys().isdisjoint(_OTHERS) or bool(_EMBEDDER.search(str(request.get("model"))))


def _last(value: Any, fold: Fold, *, texts: bool) -> Any | None:
    """A list of turns with its last user text folded; `texts`: a turn may be a plain text."""
    if isinstance(value, str):
        return fold(value)
    turns = value if isinstance(value, list) else []
    for at in range(len(turns) - 1, -1, -1):
        turn = fold(turns[at]) if texts and isinstance(turns[at], str) else _turn(turns[at], fold)
        if turn is not None:
            return [*turns[:at], turn, *turns[at + 1 :]]
    return None


def _turn(turn: Any, fold: Fold) -> Any | None:
    """A user's turn with its text folded; None for any other turn."""
    if not isinstance(turn, dict) or turn.get("role", "user") != "user":
        return None
    for name in ("content", "parts"):
        if (found := _parts(turn.get(name), fold)) is not None:
            return {**turn, name: found}
    return None


def _parts(content: Any, fold: Fold) -> Any | None:
    if isinstance(content, str):
        return fold(content)
    if isinstance(content, dict):
        found = _parts([content], fold)
        return None if found is None else found[0]
    parts = content if isinstance(content, list) else []
    return [_part(part, fold) for part in parts] if any(map(_spoken, parts)) else None


def _spoken(part: Any) -> bool:
    if isinstance(part, str):
        return True
    # Not a tool's result or a document: other people wrote those.
    return isinstance(part, dict) and isinstance(part.get("text"), str) and part.get("type") in (None, *_TEXTS)


_TEXTS: Sequence[str] = ("text", "input_text")


def _part(part: Any, fold: Fold) -> Any:
    if not _spoken(part):
        return part
    return fold(part) if isinstance(part, str) else {**part, "text": fold(part["text"])}
