"""Recorded answers, rewritten so that nothing of what anybody asked or was told is left in them.

A dictionary is shipped to everyone, so it may hold what an API's documentation shows, and nothing else. Each answer
keeps its shape: brackets, white space, and the names of its fields. Every other text is replaced by a made-up one:

- A word of the protocol stays, such as ``chat.completion`` or ``end_turn``: one without spaces, in answers that several
  independent projects have recorded.
- Prose becomes as much prose of the commonest words, drawn at random.
- Every other text becomes random characters of the same kinds, and every number random digits.

So the training sees how much of an answer is text, and of what letters, and none of the text.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from askonce.http.response import Response, pack

SOURCES = 2  # independent projects that must have recorded a word of the protocol, or the name of a field
SESSIONS = 6  # of theirs, together
WORD_SOURCES, WORD_ANSWERS = 4, 25  # the same for a word of prose, and the answers that have it
PROSE = 400  # characters of a text that are replaced; the rest adds nothing to the statistics
EVENTS = 3  # of a stream: the later ones repeat the first

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?')
_PLAIN = re.compile(r"(?:[A-Za-z0-9_.:/+=-]{1,32}[;,] ?){0,3}[A-Za-z0-9_.:/+=-]{1,48}")  # of media types too
_ID = re.compile(r"(?=.*\d)(?=.*[A-Za-z])[A-Za-z0-9_-]{16,}")
_WORD = re.compile(r"(?<![A-Za-z'])[a-z][a-z']+")  # no name begins so
_RECORDER = "x-recorded-"  # headers of whoever recorded


class Sample(NamedTuple):
    """One stored body of the corpus: who recorded it, in which session, and its text."""

    source: str
    session: str
    head: str  # what is stored before the body: status and headers as JSON; "" for the value of a `fetch`
    text: str


def recorded(corpus: Path) -> list[Sample]:
    """The bodies that a cache would store of these recordings: of HTTP clients, and of `fetch`."""
    found: list[Sample] = []
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        for line in lines:
            found += _samples(json.loads(line))
    return found


def _samples(record: dict[str, Any]) -> Iterator[Sample]:
    body = record["response_body"]
    if record["status"] != 200 or not body:
        return
    source, session = record["source_repo"], record["source_path"]
    headers = record["response_headers"]
    pairs = headers.items() if isinstance(headers, dict) else headers
    kept = [(_latin(name), _latin(value)) for name, value in pairs if not name.startswith(_RECORDER)]
    packed = pack(Response(200, kept, b""), stored=True)
    head = packed[4:].decode()
    if record["stream"]:
        yield Sample(source, session, head, "\n\n".join(re.split(r"\r?\n\r?\n", body)[:EVENTS]) + "\n\n")
        return
    yield Sample(source, session, head, body)
    try:
        yield Sample(source, session, "", orjson.dumps(orjson.loads(body)).decode())
    except orjson.JSONDecodeError:
        return


def _latin(text: object) -> bytes:
    return (", ".join(map(str, text)) if isinstance(text, list) else str(text)).encode("latin-1", "replace")


class Vocabulary(NamedTuple):
    """What may stay: words of protocols, and words of prose with how often each occurs."""

    protocol: frozenset[str]
    prose: list[str]
    weights: list[int]


def vocabulary(samples: Iterable[Sample]) -> Vocabulary:
    """The words that independent projects have in common."""
    sources, sessions = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    prose_sources, prose = defaultdict[str, set[str]](set), Counter[str]()
    for one in samples:
        for token in _texts(one.head + one.text):
            if _PLAIN.fullmatch(token):
                sources[token].add(one.source)
                sessions[token].add(one.session)
        for token in _texts(one.text):
            if " " in token:
                words = set(_WORD.findall(token))
                prose.update(words)
                for word in words:
                    prose_sources[word].add(one.source)
    kept = {word for word, by in sources.items() if len(by) >= SOURCES and len(sessions[word]) >= SESSIONS}
    kept = {word for word in kept if not _ID.fullmatch(word)}
    common = [word for word, number in prose.most_common() if number >= WORD_ANSWERS]
    common = [word for word in common if len(prose_sources[word]) >= WORD_SOURCES]
    return Vocabulary(frozenset(kept), common, [prose[word] for word in common])


def _texts(text: str) -> Iterator[str]:
    for found in _TOKEN.finditer(text):
        if found[0][0] == '"':
            yield found[0][1:-1]


def rewritten(one: Sample, words: Vocabulary, chance: random.Random) -> bytes:
    """A sample of which only the shape is left."""

    def replaced(found: re.Match[str]) -> str:
        token = found[0]
        if token[0] != '"':
            return _digits(token, chance)
        inside = token[1:-1]
        if inside in words.protocol or not inside:
            return token
        made = _prose(inside, words, chance) if " " in inside and words.prose else _characters(inside[:PROSE], chance)
        return f'"{made}"'

    return _framed(_TOKEN.sub(replaced, one.head), _TOKEN.sub(replaced, one.text))


def _framed(head: str, text: str) -> bytes:
    plain = re.sub(r"[^\x00-\x7f]", "?", text).encode()
    return len(head).to_bytes(4, "big") + head.encode("ascii", "replace") + plain if head else plain


def _digits(token: str, chance: random.Random) -> str:
    # These stay: of a status, a usage, an index.
    return token if token in {"0", "1", "200"} else re.sub(r"\d", lambda _: chance.choice("0123456789"), token)


def _characters(text: str, chance: random.Random) -> str:
    lower, upper, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
    kinds = {**dict.fromkeys(lower, lower), **dict.fromkeys(upper, upper), **dict.fromkeys(digits, digits)}
    return "".join(chance.choice(kinds[one]) if one in kinds else one if one in "-_:./=+" else "x" for one in text)


def _prose(text: str, words: Vocabulary, chance: random.Random) -> str:
    made = " ".join(chance.choices(words.prose, words.weights, k=max(1, min(len(text), PROSE) // 5)))
    return made[: len(text)]
