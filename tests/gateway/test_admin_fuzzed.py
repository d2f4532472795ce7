"""The admin API as its own document describes it: generated requests, right and wrong, all end as documented."""

import asyncio
from datetime import UTC, datetime

import hypothesis
import pytest
from starlette.responses import JSONResponse

from askonce import AsyncCache
from askonce.gateway.admin.openapi import document
from askonce.gateway.admin.operations import OPERATIONS
from tests.gateway.mounted import SHOWN, answered, mounted

FEW, MANY = 5, 600  # requests of each operation, right ones and wrong ones
RIGHT, WRONG = "positive", "negative"  # schemathesis's GenerationModes, which takes more than a second to import


@pytest.fixture(scope="module")
def operations():
    """The operations as a client reads them from the document, over a cache with a few answers."""
    import schemathesis

    # A day in the future is refused, as the document says in words: there is no format for that.
    days = hypothesis.strategies.dates(max_value=datetime.now(UTC).date())
    schemathesis.openapi.format("date", days.map(str))
    cache = AsyncCache("memory://")
    for number in range(3):
        asyncio.run(answered(cache, number, scope="a/b", tags=["t"]))
    app = mounted(cache)

    async def open_document(scope, receive, send):
        # Without its security: every request here has the token, also one that was generated as if it had none.
        if scope["path"].endswith("/openapi.json"):
            told = {name: one for name, one in document().items() if name != "security"}
            await JSONResponse({**told, "servers": [{"url": "/"}]})(scope, receive, send)
        else:
            await app(scope, receive, send)

    schema = schemathesis.openapi.from_asgi("/_askonce/api/openapi.json", open_document)
    found = (one.ok() for one in schema.get_all_operations())
    return {operation.definition.raw["operationId"]: operation for operation in found}


def tried(operation, mode: str, count: int) -> int:
    """Send so many generated requests; how many there were."""
    from schemathesis import GenerationMode

    sent = 0

    @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck)
    )
    def run(case):
        nonlocal sent
        sent += 1
        case.call_and_validate(headers=SHOWN)

    run()
    return sent


KINDS = [(one.name, mode) for one in OPERATIONS for mode in (RIGHT, WRONG) if mode is RIGHT or one.fields or one.ways]


@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_generated_requests_are_answered_as_documented(operations, name, mode):
    assert tried(operations[name], mode, FEW) >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), KINDS)
def test_ten_thousand_generated_requests_are_answered_as_documented(operations, name, mode):
    sent = tried(operations[name], mode, MANY)
    # An operation that takes nothing, or thirty numbers, has few requests. The others together have ten thousand.
    drawn = [kind for kind in KINDS if operations[kind[0]].definition.raw.keys() & {"parameters", "requestBody"}]
    assert (len(drawn) - 1) * MANY >= 10_000
    assert sent >= (30 if (name, mode) in drawn else 1)
