"""The admin API: each operation answers what the View shows, and errors say what to do."""

import asyncio
import json
from pathlib import Path

import pytest

from askonce import AsyncCache
from askonce.gateway.admin.openapi import document
from askonce.gateway.admin.operations import OPERATIONS
from askonce.gateway.results import Swept, plain
from askonce.gateway.view import View
from askonce.store import inventory
from tests.gateway.mounted import SECRET, TOKEN, answered, api, mounted


@pytest.fixture
async def cache(tmp_path):
    async with AsyncCache(f"sqlite:///{tmp_path}/a.db", prefix="llm") as cache:
        for number in range(4):
            scope = "support/triage" if number % 2 else "billing"
            await answered(cache, number, scope=scope, tags=[f"doc:{number}"])
        yield cache


@pytest.fixture
async def client(cache):
    async with api(cache) as client:
        yield client


async def test_every_operation_says_what_the_view_shows(cache, client):
    view = View(cache)
    assert (await client.get("/stats")).json() == plain(await view.stats())
    rows = (await client.get("/entries")).json()
    assert rows["entries"] == plain((await view.entries()).entries)
    key = rows["entries"][0]["key"]
    assert (await client.get(f"/entries/{key}")).json()["forms"] == plain((await view.entry(key)).forms)
    about = (await client.get("/about")).json()
    assert (about["store"], about["prefix"]) == (view.address, "llm")


async def test_entries_are_narrowed_as_the_command_narrows_them(client, monkeypatch):
    async def found(query: str) -> int:
        return len((await client.get(f"/entries?{query}")).json()["entries"])

    assert [await found(query) for query in ("scope=support", "scope=supp", "tag=doc:2", "model=m", "model=x")] == [
        2, 0, 1, 4, 0,
    ]  # fmt: skip
    assert await found("limit=3") == 3
    key = (await client.get("/entries")).json()["entries"][0]["key"]
    assert await found(f"key={key[:20].upper()}") == 1
    monkeypatch.setattr(inventory, "records", None)  # of a whole key no walk looks for it
    assert [await found(f"key={one}") for one in (key, key.upper(), f"{key}&scope=nowhere", "0" * 64)] == [1, 1, 0, 0]


async def test_an_answer_is_shown_only_to_whoever_asks_for_it(client):
    key = (await client.get("/entries")).json()["entries"][0]["key"]
    paths = ["/stats", "/entries", f"/entries/{key}", "/flights", "/about", "/", "/openapi.json"]
    for path in paths:
        said = await client.get(path)
        assert said.status_code == 200, path
        assert SECRET not in said.text, path
    (form,) = (await client.get(f"/entries/{key[:9]}?body=true")).json()["forms"]
    assert SECRET in form["body"]["text"]
    raw = await client.get(f"/entries/{key}/raw")
    assert raw.json() == form["body"]
    assert raw.headers["content-disposition"] == "attachment"


async def test_an_invalidation_reaches_what_its_dry_run_counted(cache, client):
    for aim, count in [({"scope": ["support"]}, 2), ({"tag": ["doc:0", "doc:7"]}, 1), ({"model": ["m"]}, 4)]:
        said = (await client.post("/invalidate", json={**aim, "dry_run": True})).json()
        assert (said["reached"], said["dry_run"], said["aim"]) == (count, True, aim)
    assert (await client.post("/invalidate", json={"scope": ["support"]})).json()["reached"] is None
    assert (await View(cache).stats()).states == {"fresh": 2, "invalidated": 2}
    assert (await client.post("/sweep")).json() == {"prefix": "llm", "met": 4, "deleted": 2}
    assert (await client.post("/invalidate", json={"everything": True})).status_code == 200
    assert (await View(cache).stats()).states == {"invalidated": 2}


async def test_a_key_and_a_request_are_invalidated_alone(cache, client):
    key = await answered(cache, 0, scope="billing", tags=["doc:0"])
    said = await client.post("/invalidate", json={"key": [key[:12]]})
    assert said.json()["aim"] == {"key": [key]}
    request = {"model": "m", "n": 1, "messages": [{"role": "user", "content": SECRET}]}
    said = await client.post("/invalidate", json={"request": request, "scope": "support/triage"})
    assert said.json()["aim"] == {"request": True, "scope": "support/triage"}
    assert (await View(cache).stats()).all.entries == 2


async def test_a_flight_of_this_process_is_shown_with_its_followers(cache, client):
    going = asyncio.Event()

    async def call() -> object:
        await going.wait()
        return "done"

    asked = {"model": "m", "q": "slow"}
    callers = [asyncio.create_task(cache.fetch(asked, call, scope="a/b")) for _ in range(3)]
    flights = []
    async with asyncio.timeout(20):
        while not flights or flights[0]["followers"] < 2:
            flights = (await client.get("/flights")).json()
    going.set()
    (outcome, *_) = await asyncio.gather(*callers)
    (flight,) = flights
    assert (outcome.key[:32], True, 2) == (flight["key"], flight["here"], flight["followers"])
    assert (flight["model"], flight["scope"]) == ("m", "a/b")
    assert 0 <= flight["seconds"] < 60
    assert (await client.get("/flights")).json() == []


async def test_why_is_told_of_a_key_its_beginning_and_a_request(cache, client):
    key = await answered(cache, 1, scope="support/triage")
    request = {"model": "m", "n": 1, "messages": [{"role": "user", "content": SECRET}]}
    told = (await client.get(f"/why/{key}")).json()
    assert told == (await client.get(f"/why/{key[:14]}")).json()
    assert (told["key"], SECRET in json.dumps(told)) == (key, False)
    asked = (await client.post("/why", json={"request": request, "scope": "support/triage"})).json()
    assert (asked["reason"], asked["key"]) == ("hit", key)
    assert asked["key"] == plain(await View(cache).why(request=request, scope="support/triage"))["key"]
    assert (await client.post("/why", json={"request": request, "scope": "x"})).json()["reason"] != "hit"


async def test_why_is_told_of_a_request_over_http_and_of_a_stream(cache, client):
    request = {"model": "m", "messages": [{"role": "user", "content": SECRET}]}
    http = {"url": "https://api.openai.com/v1/chat/completions", "headers": {"authorization": "Bearer sk-1"}}
    told = (await client.post("/why", json={"request": request, "http": http})).json()
    assert told["reason"] in {"never-seen", "near"}
    assert told["key"]
    other = (await client.post("/why", json={"request": request, "http": {"url": http["url"]}})).json()
    assert other["key"] != told["key"]
    streamed = (await client.post("/why", json={"request": request, "stream": True, "tags": ["a"]})).json()
    assert streamed["key"] == (await client.post("/why", json={"request": request})).json()["key"]


async def test_why_is_told_of_a_key_that_is_gone_by_its_beginning(cache, client):
    key = await answered(cache, 77)
    await cache._base.engine().pushed()
    await cache.invalidate(key=key)
    for word in (key, key[:16]):
        told = (await client.get(f"/why/{word}")).json()
        assert told["reason"] == "invalidated", told
    misses = (await client.get("/misses?limit=3")).json()
    assert misses[0]["key"] == key
    assert SECRET not in json.dumps(misses)


async def test_savings_and_activity_are_the_caches_own(cache, client):
    for _ in range(3):
        await answered(cache, 1, scope="support/triage", tags=["doc:1"])
    savings = (await client.get("/savings?days=1&by=model,scope")).json()
    assert savings == json.loads(json.dumps((await cache.savings(since=1, by=("model", "scope"))).as_dict()))
    assert savings["total"]["hits"]["calls"] == 3
    assert savings["rows"][0]["scope"] == "support/triage"
    activity = (await client.get("/activity")).json()
    assert activity["hours"][-1]["balance"]["hits"]["calls"] == 3
    assert sum(one["hits"] for one in activity["hottest"]) == 3
    tomorrow = await client.get("/savings?since=2999-01-01")
    assert tomorrow.status_code == 400
    assert "is in the future" in tomorrow.json()["detail"]
    assert (await client.get("/savings?since=2000-01-01&days=1")).json()["total"] == savings["total"]


WRONG: list[tuple[str, str, object, int, str]] = [
    ("GET", "/entries?limit=0", None, 400, "limit is 0: write a number from 1 to 1000"),
    ("GET", "/entries?limit=1&limit=2", None, 400, "limit is given 2 times"),
    ("GET", "/entries?limit=\u0661", None, 400, "limit is no integer"),
    ("GET", "/entries?modle=m", None, 400, "did you mean model?"),
    ("GET", "/entries?dead=yes", None, 400, "dead is no boolean: write it as 'true'"),
    ("GET", "/entries?scope=/a", None, 400, "scope has not the right form"),
    ("GET", "/entries?tag=a%0A", None, 400, "tag has not the right form"),
    ("GET", "/savings?by=day,modle", None, 400, "by has not the right form: write it as 'model,day'"),
    ("GET", "/savings?since=2026-02-30", None, 400, "since is no date: write it as '2026-11-01'"),
    ("GET", "/why/0a", None, 404, "no key begins with"),
    ("POST", "/why", {"request": {}, "http": {}}, 400, "http has no url"),
    ("POST", "/why", {"request": {}, "http": {"url": "file:///etc"}}, 400, "http has 'url', which has not the right"),
    ("POST", "/why", {"request": {}, "http": {"url": "https://a/b", "host": 1}}, 400, "http has no 'host': write url,"),
    ("POST", "/why", {"key": ["a"]}, 400, "in one way: request"),
    ("GET", "/entries/xyz", None, 400, "key has not the right form"),
    ("GET", "/entries/00", None, 404, "no key begins with 00"),
    ("GET", f"/entries/{'0' * 64}", None, 404, "no entry has the key"),
    ("GET", "/entriez", None, 404, "/_askonce/api/ lists"),
    ("DELETE", "/entries", None, 405, "write GET"),
    ("POST", "/invalidate", {}, 400, "in one way: key, scope"),
    ("POST", "/invalidate", [], 400, "no JSON object"),
    ("POST", "/invalidate", {"scope": ["a"], "tag": ["b"]}, 400, "in one way"),
    ("POST", "/invalidate", {"scope": []}, 400, "scope is empty"),
    ("POST", "/invalidate", {"scope": "a"}, 400, "scope is no array"),
    ("POST", "/invalidate", {"everything": False}, 400, "everything is False: write true"),
    ("POST", "/invalidate", {"tag": ["a"], "dryrun": True}, 400, "did you mean dry_run?"),
    ("POST", "/invalidate", {"request": None}, 400, "request is null"),
    ("POST", "/invalidate", {"request": {}, "scope": ["a"]}, 400, "scope is no string"),
    ("POST", "/invalidate", {"tag": ["a"], "dry_run": 1}, 400, "dry_run is no boolean"),
    ("POST", "/invalidate", {"tag": ["\ud800"]}, 400, "control characters"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), WRONG)
async def test_an_error_is_a_problem_that_says_what_to_do(client, method, path, body, status, said):
    more = {} if body is None else {"content": json.dumps(body), "headers": {"content-type": "application/json"}}
    answer = await client.request(method, path, **more)
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert (answer.status_code, told["status"]) == (status, status)
    assert said in told["detail"]
    assert "\n" not in told["detail"]


async def test_a_beginning_of_several_keys_is_a_conflict(cache, client):
    for number in range(4, 30):
        await answered(cache, number)
    keys = [one["key"] for one in (await client.get("/entries?limit=1000")).json()["entries"]]
    first = next(one[0] for one in keys if sum(key[0] == one[0] for key in keys) > 1)
    assert (await client.get(f"/entries/{first}")).status_code == 409


async def test_a_body_must_be_json_and_small_and_shallow(client):
    async def said(content: bytes, kind: str = "application/json") -> tuple[int, str]:
        answer = await client.post("/invalidate", content=content, headers={"content-type": kind})
        return answer.status_code, answer.json().get("detail", "")

    assert await said(b"{}", "text/plain") == (
        415,
        "the body is not JSON: send it with `content-type: application/json`",
    )
    assert (await said(b'{"tag": ["a"]}', "application/json; charset=utf-8"))[0] == 200
    for twice in (
        b'{"tag": ["a"], "tag": ["b"]}',
        b'{"tag": ["a"], "dry_run": true, "dry_run": false}',
        b'{"request": {"a":1,"a":1}}',
    ):
        assert await said(twice) == (400, "the body is not JSON that can be read: a name stands twice in an object")
    assert (await said(b'{"request": NaN}'))[0] == 400
    assert (await said(b'{"request": ' + b"[" * 100_000))[0] == 400
    assert (await said(b'{"request": "' + b"x" * 2**20 + b'"}'))[0] == 413


async def test_a_store_in_trouble_is_a_problem_and_no_crash():
    async with AsyncCache("redis://127.0.0.1:1/0") as cache, api(cache) as client:
        for path in ("/stats", "/entries", "/flights"):
            answer = await client.get(path)
            assert answer.status_code == 503
            assert answer.json()["kind"] == "store-refused"
            assert answer.headers["retry-after"] == "1"
        assert (await client.post("/invalidate", json={"everything": True})).status_code == 503


@pytest.mark.parametrize("body", [b"[" * 400 + b"]" * 400, b'"\\ud800"', b"[1e999, NaN]", b"\xff\xfe", b"1" * 5000])
async def test_an_answer_that_is_hard_to_write_as_json_is_shown_as_text_or_exactly(tmp_path, body, monkeypatch):
    async with AsyncCache(f"sqlite:///{tmp_path}/b.db") as cache, api(cache) as client:
        key = await answered(cache, 1)
        monkeypatch.setattr("askonce.store.inventory._plain", lambda _form, _body: body)
        (form,) = (await client.get(f"/entries/{key}?body=true")).json()["forms"]
        assert form["body"] in (body.decode("utf-8", "replace"), "\ud800")
        assert (await client.get(f"/entries/{key}/raw")).content == body


def test_the_document_has_every_operation_and_parameter_of_the_table():
    paths = document()["paths"]
    for one in OPERATIONS:
        told = paths[f"/_askonce/api{one.path}"][one.method.lower()]
        assert told["operationId"] == one.name
        assert [field["name"] for field in told.get("parameters", [])] == [field.name for field in one.fields]
        assert {"400", "401", "403", "503"} < set(told["responses"])
    assert len(document()["components"]["schemas"]) > 5


async def test_the_page_names_each_operation_and_loads_nothing_from_elsewhere(client):
    page = await client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    for one in OPERATIONS:
        assert f"{one.method} /_askonce/api{one.path}" in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_documentation_names_every_operation_and_parameter():
    page = (Path(__file__).parents[2] / "docs/admin.md").read_text("utf-8")
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    for one in OPERATIONS:
        line = rows[f"`{one.method} {one.path}`"]
        assert all(f"`{field.name}" in line or "{" + field.name + "}" in line for field in one.fields), one.name


LEFT = [
    ("GET", "/stats", "stats", True),
    ("GET", "/entries", "entries", True),
    ("GET", f"/entries/{'a' * 12}", "entry", True),
    ("GET", "/misses", "misses", True),
    ("POST", "/sweep", "sweep", True),
    ("POST", "/invalidate", "invalidate", False),
]


@pytest.mark.parametrize(("method", "path", "verb", "stops"), LEFT)
async def test_what_its_caller_does_not_wait_for_any_more_stops_unless_it_invalidates(
    cache, monkeypatch, method, path, verb, stops
):
    begun, left, ends, over = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    async def endless(_view: View, *_: object, **__: object) -> object:
        begun.set()
        try:
            await ends.wait()
        finally:
            over.append(ends.is_set())
        return []

    async def receive() -> dict[str, object]:
        if method == "POST" and not begun.is_set():
            return {"type": "http.request", "body": b'{"everything":true}'}
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(_message: object) -> None:
        return

    monkeypatch.setattr(View, verb, endless)
    headers = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": method, "path": f"/_askonce/api{path}", "query_string": b"", "headers": headers}
    asked = asyncio.create_task(mounted(cache)(scope, receive, send))
    async with asyncio.timeout(60):
        await begun.wait()
        left.set()
        if not stops:
            for _ in range(50):
                await asyncio.sleep(0)
            assert over == []
            ends.set()
        await asked
    assert over == [not stops]


async def test_a_slow_sweep_holds_up_no_list(cache, client, monkeypatch):
    begun, ends = asyncio.Event(), asyncio.Event()

    async def slow(_view: View, _rate: int) -> Swept:
        begun.set()
        await ends.wait()
        return Swept("llm", 1, 1)

    monkeypatch.setattr(View, "sweep", slow)
    sweeps = asyncio.create_task(client.post("/sweep"))
    async with asyncio.timeout(60):
        await begun.wait()
        assert len((await client.get("/entries")).json()["entries"]) == 4
        assert (await client.get("/stats")).json()["all"]["entries"] == 4
        ends.set()
        assert (await sweeps).json()["deleted"] == 1
