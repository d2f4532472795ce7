"""Cache-Control of answers: providers forbid to store all of theirs, and an operator may obey an upstream that means it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import askonce
from askonce.core.why import meaning
from askonce.gateway.acceptance import FORBIDDEN, forbids
from tests.gateway.asking import ask, configured, was_hit
from tests.gateway.running import JSON, Running, Tap, answer

OBEY = "[[rule]]\nmodel = 'own-*'\nupstream_no_store = 'obey'\n"
BLANKET = "private, max-age=0, no-store, no-cache, must-revalidate"  # as Groq says it
EVENT = json.loads(JSON)["choices"][0]
CHUNK = {"object": "chat.completion.chunk", "model": "m", "choices": [{**EVENT, "delta": EVENT["message"]}]}
STREAM = f"data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ((BLANKET,), True),
        (("no-store",), True),
        (("No-Store",), True),
        (("max-age=9", "  PRIVATE "), True),
        (('private="set-cookie"',), True),
        (("no-cache, must-revalidate",), False),
        (("max-age=0",), False),
        (("no-storex, xprivate",), False),
        (("max-age=0; no-store",), True),
        (('max-age="0, "Private"',), True),
        ((), False),
    ],
)
def test_what_forbids_to_store_is_no_store_or_private_in_any_spelling(values, found):
    assert forbids([(b"Cache-Control", value.encode()) for value in values]) is found


@pytest.mark.parametrize("stream", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_an_answer_that_forbids_to_be_stored_is_stored_unless_a_rule_obeys(tmp_path, stream):
    says = {"cache-control": BLANKET}
    made = answer(STREAM, headers=says, kind="text/event-stream") if stream else answer(headers=says)
    more = {"stream": True} if stream else None
    with Tap(lambda _: made) as tap, Running(configured(tmp_path, tap, OBEY)) as running:
        first, second = (ask(running, more=more) for _ in range(2))
        assert was_hit(second)
        assert second.headers["cache-control"] == BLANKET
        own = [ask(running, model="own-1", more=more) for _ in range(2)]
        assert not any(map(was_hit, own))
        if not stream:
            assert FORBIDDEN in own[0].headers["cache-status"]
        assert first.content == own[0].content
    assert len(tap.heard) == 3


def test_an_answer_that_is_not_stored_shows_that_its_credential_is_good(tmp_path):
    text = "[tenants]\nby = 'shared'\n[[rule]]\nupstream_no_store = 'obey'\n"
    tap = Tap(lambda heard: answer(headers={"cache-control": "no-store"} if b"secret" in heard.body else {}))
    with tap, Running(configured(tmp_path, tap, text)) as running:
        ask(running, "sk-a", "public")
        ask(running, "sk-b", "secret")
        assert was_hit(ask(running, "sk-b", "public"))
        assert not was_hit(ask(running, "sk-a", "secret"))


SOURCES = Path(askonce.__file__).parent
WORDS = re.compile(
    r'Passes\("([a-z-]+)"|(?:UNVERIFIED|REFUSED|FORBIDDEN|INHERITED) = "([a-z-]+)"|return "((?:rule|asked|not)-[a-z]+)"'
)


def test_every_word_by_which_a_gateway_passes_a_request_has_a_meaning():
    files = [*(SOURCES / "gateway").glob("*.py"), *(SOURCES / "http").glob("*.py")]
    found = {word for file in files for words in WORDS.findall(file.read_text("utf-8")) for word in words if word}
    assert {"rule-off", "not-asked", "asked-off", "bad-tenant", "unlisted-credential", "unverified"} <= found
    assert {word for word in found if not meaning(word)} == set()
