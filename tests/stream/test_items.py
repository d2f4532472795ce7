"""fetch_stream on an SDK's stream: events come back as their own type where `item=` says which, else nothing is stored."""

import asyncio
import dataclasses
import enum
import os
import threading
from typing import Annotated, Literal

import anthropic
import openai
import pydantic
import pytest
from anthropic.types import RawMessageStreamEvent
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk
from openai.types.responses import ResponseStreamEvent

import askonce
from askonce import AsyncCache, Cache, UsageError
from askonce.cache.items import items_as
from askonce.testing.provider import Provider
from tests.crowd import eventually

ASKED = [{"role": "user", "content": "Tell me a story of seven words, please."}]
CHAT = {"model": "gpt-4.1-mini", "messages": ASKED}
RESPONSES = {"model": "gpt-4.1-mini", "input": ASKED}
MESSAGES = {"model": "claude-sonnet-4-5", "messages": ASKED, "max_tokens": 99}


@pytest.fixture(scope="module")
def provider():
    with Provider() as provider:
        yield provider


def chat(client):
    return client.chat.completions.create(**CHAT, stream=True)


def responses(client):
    return client.responses.create(**RESPONSES, stream=True)


def messages(client):
    return client.messages.create(**MESSAGES, stream=True)


SDKS = {
    "chat": (openai.OpenAI, openai.AsyncOpenAI, "openai_url", chat, CHAT, ChatCompletionChunk),
    "responses": (openai.OpenAI, openai.AsyncOpenAI, "openai_url", responses, RESPONSES, ResponseStreamEvent),
    "messages": (
        anthropic.Anthropic,
        anthropic.AsyncAnthropic,
        "url",
        messages,
        MESSAGES,
        RawMessageStreamEvent,
    ),
}


@pytest.mark.parametrize("name", SDKS)
def test_an_sdks_events_come_back_as_their_own_type(name, provider, tmp_path):
    kind, _, url, ask, request, item = SDKS[name]
    with kind(base_url=getattr(provider, url), api_key="any") as client, Cache(f"sqlite:///{tmp_path}/a.db") as cache:
        kinds = [type(event) for event in ask(client)]
        right = list(cache.fetch_stream(request, lambda: ask(client), item=item))
        assert [type(event) for event in right] == kinds
        second = cache.fetch_stream(request, lambda: 1 / 0, item=item)
        events = list(second)
        assert second.status.hit
        assert [type(event) for event in events] == kinds
        assert events == right
        assert [event.to_dict() for event in events] == [event.to_dict() for event in right]


@pytest.mark.parametrize("name", SDKS)
async def test_an_async_sdks_events_come_back_as_their_own_type(name, provider):
    _, kind, url, ask, request, item = SDKS[name]
    async with kind(base_url=getattr(provider, url), api_key="any") as client, AsyncCache("memory://") as cache:
        kinds = [type(event) async for event in await ask(client)]
        right = [event async for event in await cache.fetch_stream(request, lambda: ask(client), item=item)]
        assert [type(event) for event in right] == kinds
        second = await cache.fetch_stream(request, lambda: ask(client), item=item)
        assert [event async for event in second] == right
        assert second.status.hit


@pytest.mark.parametrize("name", SDKS)
def test_without_item_an_sdks_events_pass_and_one_warning_names_the_remedy(name, provider, caplog):
    kind, _, url, ask, request, _item = SDKS[name]
    with kind(base_url=getattr(provider, url), api_key="any") as client, Cache("memory://") as cache:
        kinds = [type(event) for event in ask(client)]
        for _ in range(2):
            stream = cache.fetch_stream(request, lambda: ask(client))
            assert [type(event) for event in stream] == kinds
            assert not stream.status.hit
        assert cache.stats()["unstored.not-json"] == 2
        warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert len(warned) == 1
        assert "item=" in warned[0]


def test_a_stream_that_is_left_is_closed_at_the_sdk_too(provider):
    with openai.OpenAI(base_url=provider.openai_url, api_key="any") as client, Cache("memory://") as cache:
        opened = []

        def ask():
            opened.append(chat(client))
            return opened[0]

        policy = askonce.Policy(on_abandon="close")
        with cache.fetch_stream(CHAT, ask, item=ChatCompletionChunk, policy=policy) as stream:
            next(stream)
        assert opened[0].response.is_closed


async def test_an_async_stream_that_is_left_is_closed_at_the_sdk_too(provider):
    async with (
        openai.AsyncOpenAI(base_url=provider.openai_url, api_key="any") as client,
        AsyncCache("memory://") as cache,
    ):
        opened = []

        async def ask():
            opened.append(await chat(client))
            return opened[0]

        policy = askonce.Policy(on_abandon="close")
        async with await cache.fetch_stream(CHAT, ask, item=ChatCompletionChunk, policy=policy) as stream:
            await anext(stream)
        await asyncio.to_thread(eventually, lambda: opened[0].response.is_closed, "it is closed")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: float
    colour: Colour = Colour.RED


class Word(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    kind: Literal["word"] = "word"
    text: str = pydantic.Field(alias="said", default="")


class Number(pydantic.BaseModel):
    kind: Literal["number"] = "number"
    value: int | None = None


Either = Annotated[Word | Number, pydantic.Field(discriminator="kind")]
KINDS = {
    "dataclass": (
        Point,
        st.builds(Point, st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)),
    ),
    "alias and extra": (Word, st.builds(Word, said=st.text(), more=st.lists(st.text()))),
    "union": (
        Either,
        st.builds(Word, kind=st.just("word"), said=st.text())
        | st.builds(Number, kind=st.just("number"), value=st.none() | st.integers()),
    ),
    "list": (list[int], st.lists(st.integers(-(2**60), 2**60))),
    "plain": (dict, st.dictionaries(st.text(), st.booleans() | st.text())),
}


@pytest.mark.parametrize("name", KINDS)
def test_items_of_every_type_that_pydantic_knows_are_equal_on_a_hit(name):
    item, items = KINDS[name]
    with Cache("memory://") as cache:

        @settings(max_examples=40, deadline=None)
        @given(st.lists(items, min_size=1, max_size=4))
        def law(said):
            cache.invalidate(everything=True)
            assert list(cache.fetch_stream(CHAT, lambda: iter(said), item=item)) == said
            again = cache.fetch_stream(CHAT, lambda: iter([]), item=item)
            told = list(again)
            if again.status.hit:  # what pydantic's JSON cannot tell apart passes
                assert told == said
                assert [type(one) for one in told] == [type(one) for one in said]
                assert all(mine is not theirs for mine, theirs in zip(told, said, strict=True) if mine not in ({}, []))

        law()


class Both:
    """An iterator of both kinds, as LiteLLM's: in the other world each half asks for what is not there."""

    def __init__(self, asynchronous):
        self.asynchronous = asynchronous
        self.words = iter("abc")
        self.closed = ""

    def __iter__(self):
        return self

    def __next__(self):
        assert not self.asynchronous
        return next(self.words)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        for word in self.words:
            return word
        raise StopAsyncIteration

    def close(self):
        self.closed += "closed"

    async def aclose(self):
        await asyncio.sleep(0)
        self.closed += "closed later"


async def test_an_iterator_of_both_kinds_is_read_and_closed_in_the_way_of_the_cache():
    with Cache("memory://") as cache:
        both = Both(asynchronous=False)
        assert list(cache.fetch_stream(CHAT, lambda: both)) == ["a", "b", "c"]
        assert both.closed == "closed"
        assert list(cache.fetch_stream(CHAT, lambda: 1 / 0)) == ["a", "b", "c"]
    async with AsyncCache("memory://") as cache:
        both = Both(asynchronous=True)
        assert [word async for word in await cache.fetch_stream(CHAT, lambda: both)] == ["a", "b", "c"]
        assert both.closed == "closed later"


class Lossy(pydantic.BaseModel):
    """It does not read back as an equal item."""

    secret: str = pydantic.Field(exclude=True, default="")


class Raises(pydantic.BaseModel):
    text: str = ""

    @pydantic.field_validator("text")
    @classmethod
    def check(cls, text):
        raise RuntimeError("of the model itself")


@pytest.mark.parametrize("item", [Lossy(secret="a"), Raises.model_construct(text="a"), Point(1, float("nan"))])
def test_an_item_that_does_not_read_back_as_an_equal_one_passes_and_is_not_stored(item, caplog):
    with Cache("memory://") as cache:
        for _ in range(2):
            stream = cache.fetch_stream(CHAT, lambda: iter([item]), item=type(item))
            assert next(stream) is item
            list(stream)
            assert not stream.status.hit
    (warned,) = [record.getMessage() for record in caplog.records]
    assert "leave item= out and yield plain data" in warned


def test_an_item_of_another_type_than_was_said_passes_and_is_not_stored():
    with Cache("memory://") as cache:
        for _ in range(2):
            stream = cache.fetch_stream(CHAT, lambda: iter([Point(1, 2.0), Number(value=1)]), item=Point)
            assert list(stream) == [Point(1, 2.0), Number(value=1)]
            assert not stream.status.hit


def test_a_stream_stored_as_one_type_is_a_visible_miss_for_who_says_another():
    with Cache("memory://") as cache:
        list(cache.fetch_stream(CHAT, lambda: iter([Point(1, 2.0)]), item=Point))
        plain = cache.fetch_stream(CHAT, lambda: 1 / 0)
        assert list(plain) == [{"x": 1, "y": 2.0, "colour": "red"}], "stored as plain JSON"
        other = cache.fetch_stream(CHAT, lambda: iter([Number(value=5)]), item=Number)
        assert list(other) == [Number(value=5)]
        assert other.status.detail == "store-unreadable"


def test_those_who_follow_a_stream_say_its_type_or_get_an_error_that_says_so():
    with Cache("memory://") as cache:
        said = threading.Event()

        def open_stream():
            yield Point(1, 2.0)
            assert said.wait(60)
            yield Point(2, 3.0)

        first = cache.fetch_stream(CHAT, open_stream, item=Point)
        assert next(first) == Point(1, 2.0)
        follower = cache.fetch_stream(CHAT, open_stream, item=Point)
        stranger = cache.fetch_stream(CHAT, open_stream, item=list[int])
        assert next(follower) == Point(1, 2.0)
        with pytest.raises(UsageError, match="the same item="):
            next(stranger)
        said.set()
        assert list(first) == list(follower) == [Point(2, 3.0)]


class Strange:
    pass


@pytest.mark.parametrize("wrong", [5, "no.such.Type", Strange, os.environ, lambda: 1])
def test_an_item_that_is_no_type_of_pydantics_is_an_error_where_it_is_given(wrong):
    with Cache("memory://") as cache, pytest.raises(UsageError, match="item="):
        cache.fetch_stream(CHAT, lambda: iter([]), item=wrong)


@pytest.mark.parametrize("name", SDKS)
def test_events_of_servers_that_leave_fields_out_come_back_as_the_sdk_made_them(name, provider):
    kind, _, url, ask, _request, item = SDKS[name]
    with kind(base_url=getattr(provider, url), api_key="any") as client:
        whole = list(ask(client))
    for event in (whole[0], whole[-1]):
        said = event.to_dict(mode="json")
        for field in said.keys() - {"type"}:
            made = type(event).construct(**{name: value for name, value in said.items() if name != field}, beside=[1])
            data = items_as(item).dumped(made)
            assert data is not None
            assert (items_as(item).loaded(data), type(items_as(item).loaded(data))) == (made, type(made))
