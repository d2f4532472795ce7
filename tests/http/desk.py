"""An embeddings upstream for tests, and its vectors."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import httpx2

from askonce.testing.answers import answer
from tests.http.upstreams import Scripted

URL = "https://api.openai.com/v1/embeddings"  # its fields are known; the transport is scripted
MODEL = "text-embedding-3-small"


def vector(text: Any, width: int | None = None) -> list[float]:
    """The vector that the scripted provider has for an input."""
    request = {"model": MODEL, "input": [text], "dimensions": width}
    return list(answer(request, "openai.embeddings")["data"][0]["embedding"])


class Desk(Scripted):
    """An embeddings upstream that counts inputs, and can hold its answers back."""

    def __init__(self, module: Any = httpx2) -> None:
        super().__init__(module, self._answer)
        self.paid: Counter[str] = Counter()
        self.batches: list[list[Any]] = []
        self.hold: Any = lambda inputs: None
        self.refuse: set[Any] = set()

    def _answer(self, request: Any) -> Any:
        body = json.loads(request.read())
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        self.batches.append(inputs)
        self.paid.update(map(json.dumps, inputs))
        self.hold(inputs)
        if any(isinstance(one, str) and one in self.refuse for one in inputs):
            return self.module.Response(400, json={"error": {"message": "an input is refused", "type": "invalid"}})
        return self.module.Response(200, json=answer(body, "openai.embeddings"), headers={"x-request-id": "r"})


def embed(client: Any, inputs: Any, **more: Any) -> Any:
    response = client.post(URL, json={"model": MODEL, "input": inputs, **more})
    assert response.status_code == 200, response.text
    return response.json()


def right(got: Any, inputs: list[Any], width: int | None = None) -> None:
    assert [item["index"] for item in got["data"]] == list(range(len(inputs)))
    assert [item["embedding"] for item in got["data"]] == [vector(one, width) for one in inputs]
