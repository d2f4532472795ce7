"""Models as questions: what a dump leaves out counts, and a complete dump of a plain model is all of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import threading
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, Secret, SecretBytes, SecretStr

from askonce.core.keys import canonical
from askonce.errors import RequestError


class Base(BaseModel):
    text: str = "a"


class Derived(Base):
    more: Any = None


class Excluded(BaseModel):
    shown: int = 1
    hidden: Any = Field(default=None, exclude=True)


class Private(BaseModel):
    shown: int = 1
    _hidden: Any = PrivateAttr(default=None)

    @classmethod
    def of(cls, value: Any) -> Private:
        made = cls()
        made._hidden = value
        return made


class Declared(BaseModel):
    held: Base


class Rounded(BaseModel):
    at: dt.datetime

    @pydantic.field_serializer("at")
    def day(self, at: dt.datetime) -> str:
        return at.date().isoformat()


class Brief(BaseModel):
    name: Any = None
    rest: Any = None

    @pydantic.model_serializer
    def brief(self) -> dict[str, Any]:
        return {"name": "always"}


class Text(BaseModel):
    held: Any = None

    @pydantic.model_serializer
    def text(self) -> str:
        return "text"


class Root(pydantic.RootModel[Any]):
    pass


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")


class Silent(BaseModel):
    held: Any = Field(default=None, repr=False)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> str:
        return "computed"


class Aliased(BaseModel):
    model_config = ConfigDict(serialize_by_alias=True)
    held: Any = Field(default=None, serialization_alias="as")


class Generic(BaseModel):
    held: Secret[Any]


@dataclasses.dataclass
class Plain:
    held: Any
    _under: Any = 0


@pydantic.dataclasses.dataclass
class Checked:
    held: Any


values = st.none() | st.integers(-(2**60), 2**60) | st.text(max_size=8) | st.booleans() | st.lists(st.integers(0, 3))
hides: list[Callable[[Any], Any]] = [
    lambda v: SecretStr(str(v)),
    lambda v: SecretBytes(repr(v).encode()),
    Secret,
    lambda v: Excluded(hidden=v),
    Private.of,
    lambda v: Declared(held=Derived(more=v)),
    lambda v: Brief(rest=v),
    lambda v: Text(held=v),
    Root,
    lambda v: Extra.model_validate({"held": v}),
    lambda v: Silent(held=v),
    lambda v: Aliased(held=v),
    lambda v: Generic(held=Secret(v)),
    Plain,
    lambda v: Plain(0, v),
    Checked,
]
wraps: list[Callable[[Any], Any]] = [
    lambda v: v,
    lambda v: {"a": v},
    lambda v: [0, v],
    lambda v: Silent(held=v),
    lambda v: Silent(held={"b": [v]}),
    lambda v: Excluded(hidden=v),
    lambda v: Extra.model_validate({"x": v}),
    Plain,
    lambda v: Root([v]),
    lambda v: Brief(rest={"c": v}),
]


@settings(deadline=None)
@given(values, values, st.sampled_from(hides), st.lists(st.sampled_from(wraps), max_size=3))
def test_two_models_that_differ_anywhere_never_share_a_key(one, other, hide, around):
    def made(value: Any) -> Any:
        held = hide(value)
        for wrap in around:
            held = wrap(held)
        return held

    def same(one: Any, other: Any) -> bool:
        return type(one) is type(other) and one == other

    first, again, second = canonical(made(one)), canonical(made(one)), canonical(made(other))
    assert first == again
    alike = same(one, other) or (hide is hides[0] and str(one) == str(other))
    assert (first == second) == alike


def test_a_serializer_that_rounds_does_not_make_two_questions_one():
    morning, evening = (Rounded(at=dt.datetime(2026, 1, 1, hour, tzinfo=dt.UTC)) for hour in (9, 21))
    assert morning.model_dump(mode="json") == evening.model_dump(mode="json")
    assert canonical(morning) != canonical(evening)


def test_no_secret_stands_in_a_canonical_body():
    body = canonical(Silent(held=[SecretStr("correct-horse"), {"a": SecretBytes(b"battery-staple")}]))
    assert b"correct-horse" not in body
    assert b"battery-staple" not in body
    assert canonical({"key": SecretStr("a")}) != canonical({"key": SecretStr("b")})
    assert canonical(SecretStr("a")) != canonical(SecretBytes(b"a"))


class Colour(enum.Enum):
    RED = "red"


class Full(BaseModel):
    """All that a dump tells by itself."""

    text: str = "x"
    number: float = 0.5
    when: dt.datetime = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    day: dt.date = dt.date(2026, 1, 1)
    span: dt.timedelta = dt.timedelta(seconds=3)
    price: decimal.Decimal = decimal.Decimal("1.50")
    id: uuid.UUID = uuid.UUID(int=7)
    colour: Colour = Colour.RED
    raw: bytes = b"raw"
    url: pydantic.AnyUrl = pydantic.AnyUrl("https://example.com/a")
    several: tuple[int, ...] = (1, 2)
    names: dict[int, str] = {1: "one"}
    kinds: frozenset[int] = frozenset({1})
    nested: list[Base] = [Base()]
    perhaps: Base | None = None
    _started: int = PrivateAttr(default=0)

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def twice(self) -> int:
        return 2


def test_a_model_whose_dump_tells_everything_is_one_question_with_its_dump():
    assert canonical(Full()) == canonical(Full().model_dump(mode="json"))


def test_the_models_of_sdks_are_one_question_with_their_dumps():
    from openai.types.chat import ChatCompletion, ChatCompletionMessage
    from openai.types.responses import ResponseOutputMessage

    message = {
        "role": "assistant",
        "content": "hi",
        "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    said = ChatCompletionMessage.model_validate(message)
    answer = ChatCompletion.model_validate(
        {
            "id": "1",
            "object": "chat.completion",
            "created": 1,
            "model": "m",
            "unheard_of": {"a": [1]},
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        }
    )
    answer._request_id = "req_1"  # as the SDK sets it
    output = ResponseOutputMessage.model_validate(
        {
            "id": "1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": []}],
        }
    )
    for model in (said, answer, output):
        assert canonical([model]) == canonical([model.model_dump(mode="json")])


def test_what_a_dump_leaves_out_and_has_no_json_is_refused_by_name():
    class Held(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        client: Any = Field(exclude=True)

    with pytest.raises(RequestError, match=r"\$\.a: client is not in the dump of this Held.*model_dump"):
        canonical({"a": Held(client=threading.Lock())})
    with pytest.raises(RequestError, match="_hidden is not in the dump of this Private"):
        canonical(Private.of(threading.Lock()))


def test_what_only_its_own_serializer_can_write_is_taken_as_written():
    class Matrix:
        def __init__(self, rows: int) -> None:
            self.rows = rows

    class Held(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)
        matrix: Annotated[Matrix, pydantic.PlainSerializer(lambda one: [0] * one.rows)]

    assert canonical(Held(matrix=Matrix(2))) == canonical({"matrix": [0, 0]})


@pytest.mark.parametrize("place", ["response_format", "text"])
def test_a_class_given_for_its_schema_is_refused_with_the_way_to_write_it(place):
    with pytest.raises(RequestError, match=rf"\$\.{place}: the class Full .*pass Full\.model_json_schema\(\)"):
        canonical({"model": "m", place: Full})
    with pytest.raises(RequestError, match=r"the class Plain .*TypeAdapter\(Plain\)\.json_schema\(\)"):
        canonical({"model": "m", place: [Plain]})
