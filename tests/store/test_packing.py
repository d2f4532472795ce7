"""Commands as bytes: hiredis gets no integer, because a signal may interrupt it while it makes text of one."""

from __future__ import annotations

import hiredis
import pytest

from askonce.store.redis.address import from_url
from askonce.store.redis.scripts import pack


@pytest.fixture
def given(monkeypatch):
    """The types that hiredis was given."""
    seen = set()
    real = hiredis.pack_command

    def spied(words):
        seen.update(map(type, words))
        return real(words)

    monkeypatch.setattr(hiredis, "pack_command", spied)
    return seen


@pytest.mark.parametrize("word", [0, -1, 7, 10**18, -(10**18), 2**63 - 1])
def test_an_integer_is_packed_as_its_digits_and_never_by_hiredis(given, word):
    assert pack(b"SET", "k", word) == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%d\r\n" % (len(str(word)), word)
    assert given == {bytes, str}


@pytest.mark.servers
def test_the_commands_by_which_a_connection_is_made_are_packed_the_same_way(valkey, given):
    connection = from_url(valkey.url.removesuffix("/0") + "/3", {"client_name": "me"}).connection(1.0)
    connection.connect()
    connection.disconnect()
    assert given <= {bytes, str}


def test_a_name_of_two_words_is_two_words_on_the_wire():
    connection = from_url("redis://localhost", {}).connection(1.0)
    assert connection.pack_command("CLIENT SETNAME", "a b") == [pack(b"CLIENT", b"SETNAME", b"a b")]
