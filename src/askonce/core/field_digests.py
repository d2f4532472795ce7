"""Field digests: a request as a tree of short keyed digests, one for each field.

The tree says where two requests differ, and roughly how, without a word of either. A field's name is a digest too: the
request that is explained knows its own names, and others are found by trying those of the known APIs. Digests are
short, because a tree is compared field by field and not looked up: 24 bits for a value, fewer for its shapes.

    leaf       kind (1), value (3); a text has also: without numbers (2), without case (2), without form (1)
    container  kind (1), digest of its JSON (3), number of children (2), then each: of an object its name (3), the node
    closed     kind (1), digest of its JSON (3): a container that is not taken apart, for want of room
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

import orjson

from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.providers.patterns import pattern
from askonce.core.shapes import without_case, without_form, without_numbers

NODES = 4096  # of a request that are told apart
ROOM = 8192  # bytes of a tree
DEEPEST = 64
OBJECT, LIST, NULL, TRUTH, NUMBER, LONG, TEXT, CLOSED = range(1, 9)
CONTAINERS = frozenset({OBJECT, LIST, CLOSED})
LONG_NUMBER = 10**9  # from here on, an integer looks like a time or an id
VALUE, NAME = 3, 3
_PLAIN = pattern(r"[^\W\d][\w-]*")


class Node(NamedTuple):
    """One field: what it is, the digest of its value, the shapes of a text, and what is in it, by name or place."""

    kind: int
    value: bytes
    shapes: bytes = b""
    children: tuple[tuple[bytes, Node], ...] = ()  # the name is empty in a list

    @property
    def whole(self) -> tuple[int, bytes]:
        """What two fields with the same value share."""
        return (OBJECT if self.kind in CONTAINERS else self.kind), self.value


class Digests:
    """Makes trees with one owner's secret, and remembers the names of what it digested.

    `known`: digests of names, shared by several of one owner.
    """

    def __init__(self, secret: bytes, known: dict[str, bytes] | None = None) -> None:
        self._base = blake2b(digest_size=4, key=secret)
        self._left = NODES
        self._known = {} if known is None else known
        self.names: dict[bytes, str] = {}

    def name(self, text: str) -> bytes:
        """The digest of a field's name."""
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= NODES:
                self._known.clear()
            found = self._known[text] = self._of(f"\0{text}")[:NAME]
        self.names[found] = text
        return found

    def tree(self, fields: Mapping[str, object]) -> Node:
        """The tree of a request. The fields at the top are parts of a question (core.parts)."""
        self._left = NODES
        return self._node(dict(fields), 0)

    def _of(self, text: str) -> bytes:
        return self._digest(text.encode("utf-8", "surrogatepass"))

    def _digest(self, data: bytes) -> bytes:
        state = self._base.copy()  # a copy costs two thirds of a new keyed one
        state.update(data)
        return state.digest()

    def _node(self, value: Any, depth: int) -> Node:
        self._left -= 1
        if isinstance(value, dict | list):
            return self._container(value, depth)
        if isinstance(value, str):
            return self._text(value)
        kind = NULL if value is None else TRUTH if isinstance(value, bool) else NUMBER
        if kind == NUMBER and isinstance(value, int) and abs(value) >= LONG_NUMBER:
            kind = LONG
        return Node(kind, self._of(json.dumps(value))[:VALUE])

    def _text(self, text: str) -> Node:
        plain, digest = without_form(text), self._of(text)
        shapes = [
            digest if one == text else self._of(one) for one in (without_numbers(text), without_case(plain), plain)
        ]
        return Node(TEXT, digest[:VALUE], shapes[0][:2] + shapes[1][:2] + shapes[2][:1])

    def _container(self, value: dict[str, Any] | list[Any], depth: int) -> Node:
        digest = self._digest(_written(value))[:VALUE]
        if depth >= DEEPEST or len(value) > self._left:
            return Node(CLOSED, digest)
        if isinstance(value, dict):
            found = tuple((self.name(name), self._node(one, depth + 1)) for name, one in value.items())
            return Node(OBJECT, digest, b"", found)
        return Node(LIST, digest, b"", tuple((b"", self._node(one, depth + 1)) for one in value))


def _written(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # integers beyond 64 bits, lone surrogates, nested too deep
        try:
            return json.dumps(value).encode()
        except RecursionError:
            return b""


# --- as bytes ----------------------------------------------------------------------------------------------------


def packed(root: Node, room: int = ROOM) -> bytes:
    """A tree as at most `room` bytes: what does not fit is closed, the deepest first; b"" if nothing fits."""
    if len(data := _packed(root, DEEPEST + 1)) <= room:
        return data
    sizes = [0] * (DEEPEST + 2)
    _measure(root, 0, sizes)
    for depth in range(DEEPEST, 0, -1):
        if sum(sizes[: depth + 1]) <= room and len(data := _packed(root, depth)) <= room:
            return data
    return b""


def _packed(node: Node, depth: int) -> bytes:
    head = bytes((node.kind,)) + node.value
    if node.kind not in (OBJECT, LIST):
        return head + node.shapes
    if depth <= 0:
        return bytes((CLOSED,)) + node.value
    inside = (name + _packed(one, depth - 1) for name, one in node.children)
    return b"".join((head, len(node.children).to_bytes(2, "big"), *inside))


def _measure(node: Node, depth: int, sizes: list[int]) -> None:
    """Add the least size of each node to that of its depth."""
    sizes[depth] += 1 + VALUE + len(node.shapes)
    for name, one in node.children:
        sizes[depth + 1] += len(name)
        _measure(one, depth + 1, sizes)


def unpacked(data: bytes) -> Node:
    """The reverse of packed; ValueError for other bytes."""
    try:
        node, at = _unpacked(data, 0)
    except IndexError:
        raise ValueError("a tree is cut") from None
    if at != len(data):
        raise ValueError("bytes behind a tree")
    return node


def _unpacked(data: bytes, at: int, depth: int = 0) -> tuple[Node, int]:
    kind, value, at = data[at], data[at + 1 : at + 1 + VALUE], at + 1 + VALUE
    if not OBJECT <= kind <= CLOSED or len(value) < VALUE or depth > DEEPEST + 1:
        raise ValueError("no tree")
    if kind == TEXT:
        return Node(kind, value, data[at : at + 5]), at + 5
    if kind not in (OBJECT, LIST):
        return Node(kind, value), at
    count, at = int.from_bytes(data[at : at + 2], "big"), at + 2
    width = NAME if kind == OBJECT else 0
    children = []
    for _ in range(count):
        name = data[at : at + width]
        one, at = _unpacked(data, at + width, depth + 1)
        children.append((name, one))
    return Node(kind, value, b"", tuple(children)), at


# --- names of places ---------------------------------------------------------------------------------------------


def leaves(node: Node, name: bytes = b"") -> Iterator[bytes]:
    """A digest of each leaf with the name that is nearest to it: what two similar requests share, in whatever order."""
    if node.kind not in (OBJECT, LIST):
        yield name + node.value
    for own, one in node.children:
        yield from leaves(one, own or name)


def step(path: str, name: str | int) -> str:
    """The path of a field in a container: ``messages[0].content``."""
    if isinstance(name, int):
        return f"{path}[{name}]"
    if not _PLAIN.fullmatch(name) and name != "?":
        return f"{path}[{json.dumps(name[:80])}]"
    return f"{path}.{name[:80]}" if path else name[:80]
