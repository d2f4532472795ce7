"""The questions and answers of rows: chat requests of about 2 KB, as in the bars."""

from __future__ import annotations

import random
from typing import Any

TEXT = (
    "the customer asks whether a refund for an order is possible after thirty days when the parcel arrived late and"
    " carrier says that nobody was at home please answer politely in two sentences and cite the policy section"
)
WORDS = TEXT.split()


def prose(size: int, seed: object = 0) -> str:
    """Words, `size` characters of them, the same for the same seed."""
    draw = random.Random(f"{seed}")
    text = ""
    while len(text) < size:
        text += draw.choice(WORDS) + " "
    return text[:size]


def question(name: object, size: int = 2_000) -> dict[str, Any]:
    """A chat request of `size` bytes or little more, identified by `name`."""
    return {
        "model": "gpt-4.1-mini",
        "messages": [
            {
                "role": "system",
                "content": "You are the support desk of a mail-order company. " + prose(size // 3, "rules"),
            },
            {"role": "user", "content": f"{name}: {prose(size // 2, name)}"},
        ],
        "temperature": 0,
        "max_tokens": 400,
    }


def answer(name: object, size: int = 2_000, **more: Any) -> dict[str, Any]:
    """A complete chat completion of about `size` bytes, with the id `name`; `more` joins it."""
    text = prose(max(0, size - 350), name)
    return {
        "id": f"{name}",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "gpt-4.1-mini",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 480, "completion_tokens": 390, "total_tokens": 870},
        **more,
    }
