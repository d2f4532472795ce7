"""A prompt cache for one program, in the shape of common tutorials.

    OPENAI_API_KEY=... python examples/tutorial.py ["a question"]

It asks its question three times. The first call is paid. The second is answered from the store, here or in another
process that runs this file. Then the prompt template changes, the prefix is bumped, and the third call is paid again.
The client honours $OPENAI_BASE_URL, the store $ASKONCE_URL (by default an SQLite file).
"""

from __future__ import annotations

import sys
import time
from typing import Any

from openai import OpenAI

import askonce

MODEL = "gpt-4.1-mini"
PREFIX = "tutorial:v3"  # bump it with every change of TEMPLATE, so that no old answer is served
TEMPLATE = "You are a guide. Two sentences at most."


def ask(client: OpenAI, question: str, template: str) -> str:
    """The answer to a question, paid or not."""
    messages: list[Any] = [{"role": "system", "content": template}, {"role": "user", "content": question}]

    def call() -> dict[str, Any]:
        return client.chat.completions.create(model=MODEL, messages=messages, temperature=0).model_dump()

    # temperature changes the answer, so it is part of the key.
    out = askonce.get_or_set(messages=messages, model=MODEL, call_fn=call, ttl=3600, temperature=0)
    return str(out["choices"][0]["message"]["content"])


def show(client: OpenAI, question: str, template: str) -> None:
    """Ask, and print the answer with the time it took."""
    begun = time.perf_counter()
    answer = ask(client, question, template)
    print(f"{(time.perf_counter() - begun) * 1000:8.1f} ms  {answer}")


def main() -> None:
    """Ask twice under one prefix, and once under the next."""
    question = sys.argv[1] if len(sys.argv) > 1 else "Why was the Eiffel Tower built?"
    with OpenAI() as client:
        askonce.configure(prefix=PREFIX)
        show(client, question, TEMPLATE)
        show(client, question, TEMPLATE)

        askonce.configure(prefix="tutorial:v4")
        show(client, question, TEMPLATE + " Say when, too.")


if __name__ == "__main__":
    main()
