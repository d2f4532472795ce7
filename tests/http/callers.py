"""A process of callers behind the OpenAI SDK: for each line on stdin, as many threads ask at once; answers as JSON."""

from __future__ import annotations

import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai

from askonce import Cache


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
    store, base_url = sys.argv[1:]
    with Cache(store) as cache, cache.http_client() as http:
        client = openai.OpenAI(base_url=base_url, api_key="k", http_client=http, max_retries=0)
        print("ready", flush=True)
        for line in sys.stdin:
            number, question = json.loads(line)
            barrier = threading.Barrier(number)
            with ThreadPoolExecutor(number) as pool:
                asked = [pool.submit(ask, client, question, barrier) for _ in range(number)]
            print(json.dumps([one.result() for one in asked]), flush=True)


if __name__ == "__main__":
    main()
