"""A process of callers behind the OpenAI SDK, run by `tests.siblings`.

A line on stdin is a store, a number and a question: so many threads ask it at once. Their answers are printed as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from askonce import Cache
from tests.patience import with_files


def ask(client: openai.OpenAI, question: str, barrier: threading.Barrier) -> dict[str, Any]:
    barrier.wait()
    try:
        response = client.chat.completions.with_raw_response.create(
            model="gpt-4.1-mini", messages=[{"role": "user", "content": question}]
        ).http_response
    except openai.APIStatusError as error:
        response = error.response
    except openai.APIError as error:
        return {"error": type(error).__name__}
    headers = {name: response.headers.get(name) for name in ("retry-after", "x-request-id", "content-type")}
    status = str(response.headers.get("cache-status"))
    return {"status": response.status_code, "body": response.text, "headers": headers, "cache": status}


def main() -> None:
    with_files()
    (base_url,) = sys.argv[1:]
    with contextlib.ExitStack() as stack:
        clients: dict[str, openai.OpenAI] = {}
        print("ready", flush=True)
        for line in sys.stdin:
            store, number, question = json.loads(line)
            if store not in clients:
                http = stack.enter_context(stack.enter_context(Cache(store)).http_client())
                clients[store] = openai.OpenAI(base_url=base_url, api_key="k", http_client=http, max_retries=0)
            barrier = threading.Barrier(number)
            with ThreadPoolExecutor(number) as pool:
                asked = [pool.submit(ask, clients[store], question, barrier) for _ in range(number)]
            print(json.dumps([one.result() for one in asked]), flush=True)
