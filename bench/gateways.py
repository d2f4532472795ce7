"""The gateway: what a hit, a miss and a thousand streams cost, against the same server without a cache, and LiteLLM's.

Rates are compared in rounds, one server after the other, and processor time by the kernel's own count. The question has
1 KB and the answer 2 KB, as in the table of bars.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson

from askonce.testing.servers import free_port
from bench import gateway_servers, places, upstream
from bench.compare import median
from bench.gateway_load import FRESH, Loaded, latency, loaded, peak_of, read_streams, rounds
from bench.peers import environments
from bench.peers.catalog import Room
from bench.row import Case, Seen, row
from bench.upstream import PATH, Story
from bench.workers import Failed, Worker

ONE = ("threads",)
QUESTION = orjson.dumps({"messages": [{"role": "user", "content": "q" * 940}], "model": "gpt-4o"}).decode()
MISSED = orjson.dumps({"messages": [{"role": "user", "content": "q" * 930 + FRESH}], "model": "gpt-4o"}).decode()
ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": "gpt-4o",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a" * 1700}}],
        "usage": {"prompt_tokens": 250, "completion_tokens": 450, "total_tokens": 700},
    }
)
SQLITE, NEAR, REDIS = 0.5, 0.6, 0.35
MISS, ADDED = 1.5, 1.0
MEMORY = 1.5
TIMES_LITELLM = 40
LITELLM = Room("litellm-proxy", ("litellm[proxy]", "redis"))
UP = 180.0  # s in which LiteLLM's proxy starts


def _port(worker: Worker) -> int:
    found: int = worker.hear()
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{found}/_askonce/health", timeout=5).close()
        except urllib.error.HTTPError:
            return found  # it answers, whatever it says
        except OSError:
            time.sleep(0.05)
        else:
            return found
    raise Failed(f"nothing answers at port {found}")


def _provider(case: Case) -> str:
    """The URL of a provider that answers at once."""
    return f"http://127.0.0.1:{_port(case.workers.start(gateway_servers.provider, ANSWER))}"


def _loading(case: Case, worker: Worker, port: int, body: str) -> partial[Loaded]:
    return partial(loaded, port, worker.pid, body, 1.0 if case.quick else 6.0, case.place.folder)


@row(stores=(places.sqlite, places.valkey), modes=ONE)
def gateway_hit(case: Case) -> Iterator[Seen]:
    """stored answers a second through one worker, 32 connections, against the same server answering from a dict

    Bar: SQLite >= 0.5, Redis >= 0.35, with a near cache >= 0.6
    """
    url = _provider(case)
    plain = case.workers.start(gateway_servers.from_dict, ANSWER)
    asked = _loading(case, plain, _port(plain), QUESTION)
    wanted = {"": (0, SQLITE)} if case.place.name == "SQLite" else {"": (0, REDIS), "near": (64 * 2**20, NEAR)}
    for name, (near, least) in wanted.items():
        ours = case.workers.start(gateway_servers.gateway, url, case.place.url, near)
        both = rounds(1 if case.quick else 5, asked, _loading(case, ours, _port(ours), QUESTION))
        yield _hit_seen(both, least, name, quick=case.quick)


def _compared(both: list[list[Loaded]], what: str) -> tuple[list[float], list[float]]:
    """The second side's `what` over the first's in each round, and the median of each side."""
    sides = [[getattr(one, what) for one in side] for side in both]
    return [ours / theirs for theirs, ours in zip(*sides, strict=True)], [median(side) for side in sides]


def _hit_seen(both: list[list[Loaded]], least: float, name: str, *, quick: bool) -> Seen:
    (ratios, rates), (_, cpu) = _compared(both, "rate"), _compared(both, "cpu")
    said = f"{rates[1]:,.0f} answers/s against {rates[0]:,.0f}: {median(ratios):.2f} of it"
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f}); processor {cpu[1]:.0f} and {cpu[0]:.0f} us"
    return Seen(said + spread, None if quick else median(ratios) >= least, {"ratio": median(ratios)}, name)


@row(stores=(places.sqlite, places.valkey), modes=ONE)
def gateway_miss(case: Case) -> Seen:
    """processor time of a miss through one worker against a bare proxy of aiohttp on the same server

    Bar: <= 1.5 of it, and p50 at most 1 ms more

    The bar is out of reach of this interpreter. Beside the bare proxy, a miss is 14,000 bytecodes in 650 calls, and no
    call takes more than a hundredth of it: reading and keying the request takes a sixth, the lookup, the claim and the
    flight a fifth, judging the answer a sixth, its usage and price a tenth, sealing it and its headers a tenth. On
    SQLite its own thread adds a third, of which two fifths are the kernel's: 13 reads and 20 writes.

    What paid: no cycle of references behind a request, and a collector that looks less often (a tenth of a miss); the
    headers of an answer that matter, remembered by their names; a usage and the names of fields read once; what is
    the same for most answers, asked in one step. What did not: the same for the headers of a request (a loop over 16
    costs no more), and a connection that only writes (14 reads became 13). A claim without its read before would be
    cheaper for one caller, and a transaction for each of a crowd. What is left costs more than it brings: a client of
    our own in place of aiohttp's session, writes to SQLite in the event loop, which a slow disk would stop, and an
    answer before it is stored, whose status could not say so.
    """
    url = _provider(case)
    plain = case.workers.start(gateway_servers.bare_proxy, url)
    ours = case.workers.start(gateway_servers.gateway, url, case.place.url)
    ports = _port(plain), _port(ours)
    loads = [_loading(case, one, port, MISSED) for one, port in zip((plain, ours), ports, strict=True)]
    both = rounds(1 if case.quick else 5, *loads)
    ratios, cpu = _compared(both, "cpu")
    ratio = median(ratios)
    direct, through = latency(ports, MISSED, 50 if case.quick else 1000)
    said = f"{cpu[1]:.0f} us against {cpu[0]:.0f}: {ratio:.2f} of it; p50 {through:.2f} ms against {direct:.2f} ms"
    right = ratio <= MISS and through - direct <= ADDED
    return Seen(said, None if case.quick else right, {"ratio": ratio, "added": through - direct})


@row(stores=(places.sqlite, places.valkey), modes=ONE)
def gateway_streams(case: Case) -> Iterator[Seen]:
    """1,000 streams at once through one worker, of one question and of 200

    Bar: 1 and 200 calls, every stream whole, and memory <= 1.5 of that of 200 streams
    """
    many, few = (100, 20) if case.quick else (1000, 200)
    base = 0.0
    for streams, questions in ((few, few), (many, 1), (many, few)):
        calls, said, peak = _streamed(case, streams, questions)
        base = base or peak
        whole = not said["torn"] and said["least"] > 100
        text = f"{calls} calls, {said['torn']} torn, {peak:.0f} MB, {peak / base:.2f} of {few} streams"
        right = calls == questions and whole and peak <= MEMORY * base
        yield Seen(
            text, None if case.quick else right, {"calls": calls, "memory": peak / base}, f"{streams} of {questions}"
        )


def _streamed(case: Case, streams: int, questions: int) -> tuple[int, dict[str, int], float]:
    """The calls that reached upstream, what the streams were like, and the gateway's peak in MB."""
    source = case.workers.start(upstream.serve, Story(events=40, ttft=2.0, gap=0.1))
    url = str(source.hear()).removesuffix(PATH)
    ours = case.workers.start(gateway_servers.gateway, url, case.place.url)
    port = _port(ours)
    run = os.urandom(4).hex()  # other questions in each run
    bodies = [
        orjson.dumps({**upstream.REQUEST, "messages": [{"role": "user", "content": f"{run} {number % questions}"}]})
        for number in range(streams)
    ]
    said: dict[str, int] = case.workers.start(read_streams, port, [body.decode() for body in bodies]).hear()
    source.tell("how many")
    calls: int = source.hear()
    peak = peak_of(ours.pid)
    ours.kill()
    return calls, said, peak


@row(heavy=True, stores=(places.valkey,), modes=ONE)
def gateway_litellm(case: Case) -> Seen:
    """stored answers a second through one worker, against LiteLLM's proxy with the same Redis

    Bar: >= 40 times as many
    """
    url = _provider(case)
    ours = case.workers.start(gateway_servers.gateway, url, case.place.url)
    port = _port(ours)
    process, theirs, version = _litellm(case, url)
    try:
        _until_up(process, theirs, case.place.folder / "litellm.log")
        times = 1 if case.quick else 3
        both = rounds(
            times,
            partial(loaded, theirs, process.pid, QUESTION, 2.0 if case.quick else 10.0, case.place.folder),
            _loading(case, ours, port, QUESTION),
        )
    finally:
        process.kill()
        process.wait()
    ratios, rates = _compared(both, "rate")
    ratio = median(ratios)
    said = f"{rates[1]:,.0f} answers/s against {rates[0]:,.0f} of LiteLLM {version}: {ratio:.0f} times as many"
    return Seen(said, None if case.quick else ratio >= TIMES_LITELLM, {"ratio": ratio})


def _litellm(case: Case, url: str) -> tuple[subprocess.Popen[bytes], int, str]:
    """LiteLLM's proxy in an environment of its own, which the first run makes: the process, its port, its version."""
    room = environments.ready(LITELLM, Path(os.environ.get("ASKONCE_ROOMS", ".venv/peers")))
    server = case.place.running
    config = {
        "model_list": [
            {
                "model_name": "gpt-4o",
                "litellm_params": {"model": "openai/gpt-4o", "api_base": f"{url}/v1", "api_key": "k"},
            }
        ],
        "litellm_settings": {
            "cache": True,
            "cache_params": {"type": "redis", "host": "127.0.0.1", "port": server.port},
        },
    }
    file = case.place.folder / "litellm.json"  # JSON is YAML
    file.write_bytes(orjson.dumps(config))
    port = free_port()
    program = [
        str(Path(room.python).with_name("litellm")),
        "--config",
        str(file),
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    weak = "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"  # without a key of its own it does less
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", weak: "true"}
    with (case.place.folder / "litellm.log").open("wb") as log:
        made = subprocess.Popen(program, stdout=log, stderr=log, env=environment)
    return made, port, room.versions.get("litellm", "")


def _until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + UP
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    said = log.read_text("utf-8", "replace").strip().splitlines() or ["nothing"]
    raise Failed(f"LiteLLM's proxy does not answer; it says {said[-1]!r}")
