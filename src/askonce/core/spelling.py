"""The known word that a misspelt one was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable


def meant(word: str, known: Iterable[str]) -> str | None:
    """The known word that `word` nearly is, and None if it is one of them or none is near.

    Near: one letter added, missing, wrong or exchanged with its neighbour; two in words of six letters and more. Case,
    underscores and hyphens do not count. Not difflib's ratio: by it, ``tll`` is as far from ``ttl`` as ``tool``.
    """
    words = sorted(known)
    if word in words:
        return None
    plain = _plain(word)
    far, nearest = min(((_distance(plain, _plain(one)), one) for one in words), default=(len(word), ""))
    return nearest if far <= (2 if min(len(plain), len(_plain(nearest))) >= 6 else 1) and len(plain) > 1 else None


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _distance(one: str, other: str) -> int:
    """How many letters differ: Damerau and Levenshtein's distance, of neighbours exchanged once."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one):
        earlier, before, row = before, row, [i + 1]
        for j, b in enumerate(other):
            best = min(before[j + 1] + 1, row[j] + 1, before[j] + (a != b))
            if i and j and a == other[j - 1] and b == one[i - 1]:
                best = min(best, earlier[j - 1] + 1)
            row.append(best)
    return row[-1]
