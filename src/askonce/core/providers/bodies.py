"""What the body of an operation looks like: a path alone does not say that a request is for a model.

`/v1/surveys/7/responses` takes answers to a survey, `/api/v1/messages` posts into a channel. What is sent there does
not have the fields that the operation of that name cannot do without. Each API says which these are by its `asks`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Body", "names_model", "said", "turns", "typed", "without"]

Body = dict[str, Any]


def names_model(body: Body) -> bool:
    """Whether a model is named in the usual field."""
    model = body.get("model")
    return isinstance(model, str) and bool(model)


def turns(body: Body, content: Callable[[object], bool]) -> bool:
    """Whether `messages` are turns of a conversation: each with its role, and content of this kind."""
    said = body.get("messages")
    if not isinstance(said, list) or not said:
        return False
    # A loop and not all(): it is run for every request that was not met before.
    for turn in said:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and content(turn.get("content"))):
            return False
    return True


def said(value: object) -> bool:
    """Whether there is a text, or a list."""
    return isinstance(value, str | list) and bool(value)


def typed(content: object) -> bool:
    """What chat and Anthropic take for content: text, nothing, or blocks that say their type."""
    if content is None or isinstance(content, str):
        return True
    blocks = content if isinstance(content, list) else [None]
    return all(isinstance(block, str) or (isinstance(block, dict) and "type" in block) for block in blocks)


def without(block: Body, name: str) -> None:
    """Take a mark off a block; what is not a dict is no mark, and none of ours to judge."""
    if isinstance(block.get(name, {}), dict | None):
        block.pop(name, None)
