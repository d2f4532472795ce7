"""Batches of embeddings: every vector is the right one, and only missing ones are paid for."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce import Cache
from askonce.http.embeddings import cut, inputs_of, put_together, whole
from askonce.testing.answers import answer
from tests.crowd import eventually
from tests.http.desk import MODEL, URL, Desk, embed, right, vector
from tests.profiles import examples


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def client(cache, desk):
    with cache.http_client(inner=desk) as client:
        yield client


# --- what is paid ---


def test_only_what_is_missing_is_sent_in_one_call_and_put_together_in_the_callers_order(client, desk):
    right(embed(client, ["a", "b", "c"]), ["a", "b", "c"])
    right(embed(client, ["d", "b", "e", "a", "d"]), ["d", "b", "e", "a", "d"])
    assert desk.batches == [["a", "b", "c"], ["d", "e"]]
    right(embed(client, ["e", "c"]), ["e", "c"])
    right(embed(client, "d"), ["d"])
    assert len(desk.batches) == 2


def test_a_text_alone_and_in_a_list_of_one_are_one_question(client, desk):
    assert embed(client, "a") == embed(client, ["a"])
    assert len(desk.batches) == 1


def test_lists_of_tokens_are_inputs_too(client, desk):
    right(embed(client, [[1, 2], [3]]), [[1, 2], [3]])
    right(embed(client, [3]), [[3]])
    right(embed(client, [[4], [1, 2]]), [[4], [1, 2]])
    assert desk.batches == [[[1, 2], [3]], [[4]]]


def test_model_dimensions_and_encoding_tell_questions_apart(client, desk):
    right(embed(client, ["a"], dimensions=4), ["a"], 4)
    right(embed(client, ["a"], dimensions=8), ["a"], 8)
    packed = embed(client, ["a"], encoding_format="base64")["data"][0]["embedding"]
    assert isinstance(packed, str)
    embed(client, ["a"], model="other")
    embed(client, ["a"], dimensions=4, user="me")  # the user field does not count
    assert len(desk.batches) == 4


def test_the_fields_of_the_request_go_with_the_part_that_is_sent(client, desk):
    embed(client, ["a"], dimensions=4, user="me")
    embed(client, ["a", "b"], dimensions=4, user="me")
    assert json.loads(desk.requests[1].body) == {"model": MODEL, "input": ["b"], "dimensions": 4, "user": "me"}
    sent = [value for name, value in desk.requests[1].headers if name.lower() == b"content-length"]
    assert sent == [str(len(desk.requests[1].body)).encode()]


def test_usage_is_what_was_paid_now(client):
    def usage(inputs: Any) -> int:
        return int(embed(client, inputs)["usage"]["prompt_tokens"])

    alone, both = usage("b" * 40), usage(["a" * 80, "c" * 40])
    assert usage(["a" * 80, "c" * 40]) == both  # asked again in the same way: the very answer of the first time
    assert usage("b" * 40) == alone
    assert usage(["c" * 40, "b" * 40]) == 0
    assert usage(["c" * 40, "d" * 40]) == alone


def test_a_batch_asked_again_alike_is_answered_by_the_same_bytes(client, desk):
    first = client.post(URL, json={"model": MODEL, "input": ["a", "b"]})
    again = client.post(URL, json={"input": ["a", "b"], "model": MODEL})
    assert first.content == again.content
    assert again.headers["x-request-id"] == "r"
    assert again.headers["cache-status"].startswith("askonce; hit; ttl=")
    assert again.headers["age"] == "0"
    assert len(desk.batches) == 1


def test_the_status_of_a_batch_says_how_many_were_found(cache, client):
    embed(client, ["a", "b"])
    with cache.watch() as seen:
        response = client.post(URL, json={"model": MODEL, "input": ["a", "c", "b", "d"]})
    assert "fwd=miss" in response.headers["cache-status"]
    assert "detail=hits-2-of-4" in response.headers["cache-status"]
    assert [status.hit for status in seen] == [True, True, False, False] or len(seen) == 4


@pytest.mark.parametrize("inputs", [[], {"a": 1}, None, 5])
def test_what_is_no_input_of_an_embeddings_request_passes(cache, client, desk, inputs):
    desk.answer = lambda request: httpx2.Response(200, json=answer({"input": ["x"]}, "openai.embeddings"))
    with cache.watch() as seen:
        for _ in range(2):
            embed(client, inputs)
    assert [status.detail for status in seen] == ["body-mismatch"] * 2
    assert len(desk.requests) == 2


@pytest.mark.parametrize("inputs", [[1, "a"], ["a", ["b"]], [[]], [True]])
def test_inputs_that_are_not_understood_are_one_question_as_they_stand(client, desk, inputs):
    desk.answer = lambda request: httpx2.Response(200, json=answer({"input": ["x"]}, "openai.embeddings"))
    for _ in range(2):
        embed(client, inputs)
    assert len(desk.requests) == 1
    assert inputs_of({"input": inputs}) is None


# --- answers that are odd ---


def shuffled(body: Any) -> Any:
    return {**body, "data": body["data"][::-1]}


def unnumbered(body: Any) -> Any:
    return {**body, "data": [{"embedding": item["embedding"]} for item in body["data"]]}


def short(body: Any) -> Any:
    return {**body, "data": body["data"][:-1]}


def twice(body: Any) -> Any:
    return {**body, "data": [{**item, "index": 0} for item in body["data"]]}


@pytest.mark.parametrize("bend", [shuffled, unnumbered])
def test_an_answer_in_another_order_or_without_numbers_is_understood(client, desk, bend):
    desk.answer = lambda request: httpx2.Response(
        200, json=bend(answer(json.loads(request.read()), "openai.embeddings"))
    )
    embed(client, ["a", "b", "c"])
    got = embed(client, ["c", "a"])["data"]
    assert [item["embedding"] for item in got] == [vector("c"), vector("a")]
    assert len(desk.requests) == 1


@pytest.mark.parametrize("bend", [short, twice])
def test_an_answer_that_does_not_fit_its_inputs_is_given_as_it_is_and_not_kept(cache, client, desk, bend):
    desk.answer = lambda request: httpx2.Response(
        200, json=bend(answer(json.loads(request.read()), "openai.embeddings"))
    )
    first = embed(client, ["a", "b", "c"])
    assert first == bend(answer({"model": MODEL, "input": ["a", "b", "c"]}, "openai.embeddings"))
    embed(client, ["a", "b", "c"])
    assert len(desk.requests) == 2
    assert cache.stats().get("stored", 0) == 0


def test_a_part_that_does_not_fit_is_asked_again_as_the_whole_it_came_in(client, desk):
    embed(client, ["a"])
    desk.answer = lambda request: httpx2.Response(
        200, json=short(answer(json.loads(request.read()), "openai.embeddings"))
    )
    assert len(embed(client, ["a", "b", "c"])["data"]) == 2
    assert [json.loads(one.body)["input"] for one in desk.requests] == [["a"], ["b", "c"], ["a", "b", "c"]]


def test_a_refused_input_is_refused_as_without_askonce(client, desk):
    desk.refuse = {"bad"}
    embed(client, ["a"])
    request = {"model": MODEL, "input": ["a", "bad", "b"]}
    assert client.post(URL, json=request).status_code == 400
    assert desk.batches[-1] == ["a", "bad", "b"]  # the error of the caller's own request, with its own numbering
    right(embed(client, ["b"]), ["b"])


def test_a_refused_batch_does_not_refuse_those_who_wait_for_its_good_inputs(cache, client, desk):
    desk.refuse = {"bad"}
    gate = threading.Event()
    desk.hold = lambda inputs: gate.wait(60) if "bad" in inputs else None
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(client.post, URL, json={"model": MODEL, "input": ["good", "bad"]})
        eventually(lambda: desk.batches, "the leader calls")
        follower = pool.submit(embed, client, ["good"])
        eventually(lambda: any(one.followers for one in cache._base._engine.board.flights()), "the follower waits")
        gate.set()
        assert leader.result(60).status_code == 400
        right(follower.result(60), ["good"])


def more(body: Any) -> Any:
    return {**body, "data": [*body["data"], {**body["data"][0], "index": len(body["data"])}]}


@pytest.mark.parametrize("bend", [more, short, None], ids=["more", "fewer", "refused"])
def test_what_came_for_one_input_and_is_no_vector_is_not_the_answer_of_a_batch_with_it(cache, client, desk, bend):
    gate = threading.Event()

    def odd(request: Any) -> Any:
        body = json.loads(request.read())
        if body["input"] != ["b"]:
            return httpx2.Response(200, json=answer(body, "openai.embeddings"))
        assert gate.wait(60)
        made = bend(answer(body, "openai.embeddings")) if bend else {"error": {"message": "not this one"}}
        return httpx2.Response(200 if bend else 400, json=made)

    desk.answer = odd
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(client.post, URL, json={"model": MODEL, "input": ["b"]})
        eventually(lambda: desk.requests, "the leader calls")
        follower = pool.submit(embed, client, ["a", "b"])
        eventually(lambda: any(one.followers for one in cache._base._engine.board.flights()), "the follower waits")
        gate.set()
        assert leader.result(60).status_code == (200 if bend else 400)
        right(follower.result(60), ["a", "b"])


def test_a_429_is_shared_with_those_who_wait_for_a_part(cache, client, desk):
    gate = threading.Event()

    def limited(request: Any) -> Any:
        assert gate.wait(60)
        return httpx2.Response(429, json={"error": {"message": "slow down"}}, headers={"retry-after": "3"})

    desk.answer = limited
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(client.post, URL, json={"model": MODEL, "input": ["a", "b"]})
        eventually(lambda: desk.requests, "the leader calls")
        follower = pool.submit(client.post, URL, json={"model": MODEL, "input": ["b", "a"]})
        eventually(lambda: any(one.followers for one in cache._base._engine.board.flights()), "the follower waits")
        gate.set()
        for one in (leader.result(60), follower.result(60)):
            assert (one.status_code, one.headers["retry-after"]) == (429, "3")
    assert len(desk.requests) == 1


# --- through the SDK ---


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_the_sdk_decodes_the_same_vectors(cache, desk, encoding):
    more: Any = {} if encoding is None else {"encoding_format": encoding}
    with cache.http_client(inner=desk) as http:
        sdk = openai.OpenAI(base_url="https://api.example/v1", api_key="k", http_client=http)
        for inputs in (["a", "b"], ["b", "c", "a", "c"]):
            got = sdk.embeddings.create(model=MODEL, input=inputs, **more)
            assert [one.index for one in got.data] == list(range(len(inputs)))
            if encoding != "base64":
                assert [one.embedding for one in got.data] == [vector(one) for one in inputs]
    assert desk.batches == [["a", "b"], ["c"]]


# --- at random ---

BATCH = st.tuples(
    st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=8),
    st.sampled_from([{}, {"encoding_format": "base64"}, {"encoding_format": "float"}, {"dimensions": 3}]),
)


def walk(batches: list[tuple[list[str], dict[str, Any]]]) -> None:
    """Ask all of these one after the other; each answer is right, and each input is paid for once."""
    desk = Desk()
    known: set[tuple[str, str]] = set()
    with Cache("memory://") as cache, cache.http_client(inner=desk) as client:
        for inputs, more in batches:
            before = len(desk.batches)
            got = embed(client, inputs, **more)
            expected = answer({"model": MODEL, "input": inputs, **more}, "openai.embeddings")
            assert got["data"] == expected["data"]
            form = json.dumps(more, sort_keys=True)
            missing = [one for one in dict.fromkeys(inputs) if (one, form) not in known]
            assert desk.batches[before:] == ([missing] if missing else [])
            known.update((one, form) for one in inputs)


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(BATCH, min_size=1, max_size=15))
def test_any_sequence_of_batches_is_answered_rightly_and_pays_for_distinct_missing_inputs(batches):
    walk(batches)


@pytest.mark.slow
def test_10_000_random_batches():
    rng = random.Random(1)
    forms: list[dict[str, Any]] = [{}, {"encoding_format": "base64"}, {"encoding_format": "float"}, {"dimensions": 3}]
    names = [f"text {number}" for number in range(3000)]
    walk([(rng.choices(names, k=rng.randint(1, 20)), rng.choice(forms)) for _ in range(10_000)])


STYLES: list[dict[str, Any]] = [{}, {"indent": 2}, {"separators": (",", ":")}, {"indent": "\t", "ensure_ascii": False}]


@given(
    st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4), min_size=1, max_size=5
    ),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
    st.sampled_from(STYLES),
    st.randoms(use_true_random=False),
)
def test_vectors_are_cut_out_and_put_back_as_the_bytes_they_were(numbers, more, style, rng):
    """However the answer is written, and whatever else stands in it, even what looks like a vector."""
    data = [{"object": "embedding", "index": at, "embedding": one} for at, one in enumerate(numbers)]
    fields = [
        ("object", "list"),
        ("data", data),
        ("usage", {"total_tokens": 3}),
        ("note", '"data": [{}]'),
        ("list", [{}]),
    ]
    rng.shuffle(fields)
    body = json.dumps({**{f"x{name}": text for name, text in more.items()}, **dict(fields)}, **style).encode()
    vectors = cut(body, len(numbers))
    assert vectors is not None
    assert [json.loads(one.item) for one in vectors] == data
    assert whole(vectors) == body
    mixed = [vectors[at] for at in rng.choices(range(len(numbers)), k=4)]
    made = json.loads(put_together(mixed, None))
    assert [item["index"] for item in made["data"]] == [0, 1, 2, 3]
    assert [item["embedding"] for item in made["data"]] == [json.loads(one.item)["embedding"] for one in mixed]
    assert made["usage"] == {"total_tokens": 0}
    assert json.loads(put_together(mixed, vectors[0].frame))["usage"] == {"total_tokens": 3}


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"data": {}}', b'{"data": [1, 2]}', b'{"a": {"data": [{}]}}'])
def test_what_holds_no_vectors_is_not_cut(body):
    assert cut(body, 1) is None


def test_a_large_batch_is_cut_and_put_together_in_little_time(cache, client, desk):
    names = [f"text {number}" for number in range(2048)]
    embed(client, names)
    more = [*names[::-1], "one more"]
    right(embed(client, more), more)
    assert [len(batch) for batch in desk.batches] == [2048, 1]
