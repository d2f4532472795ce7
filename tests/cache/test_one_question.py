"""A request is identified by its JSON: every type of one request has the same key, model and verdict."""

from types import MappingProxyType

import pytest
from pydantic import BaseModel

from askonce import Cache
from askonce.testing import ScriptedCall


class Request(BaseModel):
    model: str
    tools: list[dict[str, str]] = []


@pytest.fixture
def cache():
    with Cache("memory://") as cache:
        yield cache


@pytest.mark.parametrize("kind", [MappingProxyType, lambda request: Request(**request)])
def test_a_model_is_known_whatever_type_the_request_came_as(cache, kind):
    call = ScriptedCall()
    plain = {"model": "m", "tools": []}
    cache.fetch(kind(plain), call.on(plain))
    assert cache.fetch(plain, call.on(plain)).status.hit
    cache.invalidate(model="m")
    assert not cache.fetch(plain, call.on(plain)).status.hit


@pytest.mark.parametrize("kind", [MappingProxyType, lambda request: Request(**request)])
def test_tools_pass_whatever_type_the_request_came_as(cache, kind):
    call = ScriptedCall()
    plain = {"model": "m", "tools": [{"type": "function"}]}
    for request in (kind(plain), plain):
        assert cache.fetch(request, call.on(plain)).status.detail == "tools"
    assert call.calls == 2
