"""What the body of an operation looks like: a path alone does not say that a request is for a model.

`/v1/surveys/7/responses` takes answers to a survey, `/api/v1/messages` posts into a channel. What is sent there does
not have the fields that the operation of that name cannot do without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["asks"]

Body = dict[str, Any]


def asks(shape: str, body: Body, *, named: bool) -> bool:
    """Whether `body` has this shape; `named`: its model is named elsewhere, or the host is known to take it so.

    A shape is a protocol's name, or ``claude``: Anthropic messages where a cloud's path names the model.
    """
    return _SHAPES[shape](body, named)


def _named(body: Body) -> bool:
    model = body.get("model")
    return isinstance(model, str) and bool(model)


def _turns(body: Body, content: Callable[[object], bool]) -> bool:
    """Whether `messages` are turns of a conversation: each with its role, and content of this kind."""
    turns = body.get("messages")
    if not isinstance(turns, list) or not turns:
        return False
    # A loop and not all(): it is run for every request that was not met before.
    for turn in turns:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and content(turn.get("content"))):
            return False
    return True


def _said(value: object) -> bool:
    return isinstance(value, str | list) and bool(value)


def _blocks(content: object) -> bool:
    """Converse's and Nova's blocks: told apart by their one key, not by a type."""
    return isinstance(content, list) and all(isinstance(block, dict) and "type" not in block for block in content)


def _typed(content: object) -> bool:
    """What chat and Anthropic take for content: text, nothing, or blocks that say their type."""
    if content is None or isinstance(content, str):
        return True
    blocks = content if isinstance(content, list) else [None]
    return all(isinstance(block, str) or (isinstance(block, dict) and "type" in block) for block in blocks)


def _chat(body: Body, named: bool) -> bool:
    # OpenRouter takes a list of models in place of one.
    return _turns(body, _typed) and (named or _named(body) or isinstance(body.get("models"), list))


def _completions(body: Body, named: bool) -> bool:
    return _said(body.get("prompt")) and (named or _named(body))


def _responses(body: Body, named: bool) -> bool:
    stored = isinstance(body.get("prompt"), dict)
    goes_on = any(isinstance(body.get(name), str | dict) for name in ("previous_response_id", "conversation"))
    return (stored or goes_on or _said(body.get("input"))) and (stored or named or _named(body))


def _embeddings(body: Body, named: bool) -> bool:
    return _said(body.get("input")) and (named or _named(body))


def _messages(body: Body, named: bool) -> bool:
    limit = body.get("max_tokens")
    counted = isinstance(limit, int | float) and not isinstance(limit, bool)
    return _turns(body, _typed) and counted and (named or _named(body))


def _claude(body: Body, _named: bool) -> bool:
    return isinstance(body.get("anthropic_version"), str) and _messages(body, named=True)


def _gemini(body: Body, _named: bool) -> bool:
    contents = body.get("contents")
    turns = contents if isinstance(contents, list) else [contents]  # its proto JSON takes one in place of a list
    return bool(turns) and all(isinstance(turn, dict) and isinstance(turn.get("parts"), list | dict) for turn in turns)


def _converse(body: Body, _named: bool) -> bool:
    return _turns(body, _blocks)


_SHAPES: dict[str, Callable[[Body, bool], bool]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "embeddings": _embeddings,
    "messages": _messages,
    "claude": _claude,
    "gemini": _gemini,
    "converse": _converse,
    "message": lambda body, named: _turns(body, _typed) and (named or _named(body)),
}
