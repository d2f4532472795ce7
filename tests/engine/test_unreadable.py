"""An unreadable entry is a visible miss, once: the call that it costs replaces it."""

import redis

from askonce import Cache
from askonce.testing import ScriptedCall
from tests.fixtures import patient

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "Are you whole?"}]}


def entry_name(client):
    (name,) = client.keys("*:e1:*")
    return name


def ask(cache, call):
    return cache.fetch(REQUEST, call.on(REQUEST))


def damaged(valkey, damage):
    """What three lookups see when an entry's bytes were changed behind our back."""
    client = redis.Redis.from_url(valkey.url)
    with Cache(patient(valkey)) as cache:
        call = ScriptedCall()
        ask(cache, call)
        name = entry_name(client)
        client.set(name, damage(client.get(name)), keepttl=True)
        outcomes = [ask(cache, call) for _ in range(2)]
        return outcomes, call.calls


def test_a_body_that_was_damaged_behind_a_good_header_is_paid_once_and_replaced(valkey):
    (first, second), calls = damaged(valkey, lambda entry: entry[:-1] + bytes([entry[-1] ^ 1]))
    assert first.status.fwd == "miss"
    assert first.status.stored
    assert first.status.detail == "store-corrupt"
    assert second.status.hit
    assert calls == 2


def test_an_entry_of_a_newer_format_is_a_visible_miss(valkey):
    (first, _), calls = damaged(valkey, lambda entry: entry[:2] + b"\x63" + entry[3:])
    assert first.status.detail == "store-newer-format"
    assert calls == 2


def test_another_programs_text_under_our_name_is_a_visible_miss_and_replaced(valkey):
    (first, second), calls = damaged(valkey, lambda entry: b"a stranger's value")
    assert first.status.detail == "store-foreign"
    assert second.status.hit
    assert calls == 2
