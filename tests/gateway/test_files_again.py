"""A reload reads the files that a configuration names again, also if only what they hold has changed."""

from __future__ import annotations

import pytest

from askonce.errors import ConfigError
from askonce.gateway.config import load
from tests.gateway.asking import ask, configured, was_hit
from tests.gateway.running import CLIENT, JSON, Running, Tap, answer

TOKEN = "0123456789abcdef0123456789abcdef"
USED = JSON[:-1] + b',"usage":{"prompt_tokens":1000,"completion_tokens":1000,"total_tokens":2000}}'


def saved(running, text):
    """What the second of two requests says that it saved."""
    ask(running, text=text, model="mine")
    return ask(running, text=text, model="mine").headers.get("askonce-saved-usd")


def test_prices_that_changed_in_their_file_count_from_the_next_answer_on(tmp_path):
    prices = tmp_path / "prices.toml"
    prices.write_text("[models.mine]\ninput = 1.0\noutput = 1.0\n")
    with Tap(lambda _: answer(USED)) as tap:
        config = configured(tmp_path, tap, "[prices]\nfile = 'prices.toml'\n")
        with Running(config) as running:
            assert saved(running, "one") == "0.002"
            kept = running.gateway.cache
            running.reload(load(tmp_path / "askonce.toml"))
            assert running.gateway.cache is kept  # nothing has changed
            prices.write_text("[models.mine]\ninput = 7.0\noutput = 7.0\n")
            running.reload(load(tmp_path / "askonce.toml"))
            assert saved(running, "two") == "0.014"
            prices.write_text("[models.mine\n")
            with pytest.raises(ConfigError, match="prices"):
                running.reload(load(tmp_path / "askonce.toml"))
            assert saved(running, "three") == "0.014"


def ciphers(running):
    """The ids of the keys with which its answers are encrypted, the newest first."""
    shown = {"authorization": f"Bearer {TOKEN}"}
    entries = CLIENT.get(f"{running.url}/_askonce/api/entries", headers=shown).json()["entries"]
    return [one["cipher"] for one in sorted(entries, key=lambda one: -one["created"])]


def test_keys_that_were_rotated_in_their_file_are_used(tmp_path):
    ring, file = tmp_path / "keys", tmp_path / "askonce.toml"
    first, second, names = (f"{name}={digit * 64}\n" for name, digit in (("old", "1"), ("new", "2"), ("names", "3")))
    ring.touch(0o600)
    ring.write_text(f"{first}{names}")
    with Tap() as tap:
        store = f"sqlite:///{tmp_path}/answers.db'\nencryption = 'file:{ring}"
        config = configured(tmp_path, tap, f"[admin]\ntoken = '{TOKEN}'\n", store)
        with Running(config) as running:
            ask(running, text="one")
            assert ciphers(running) == ["old"]
            ring.write_text(f"{second}{first}{names}")
            running.reload(load(file))
            ask(running, text="two")
            assert ciphers(running) == ["new", "old"]
            assert was_hit(ask(running, text="one"))
            ring.write_text("no ring")
            with pytest.raises(ConfigError, match="askonce keys"):
                running.reload(load(file))
            assert was_hit(ask(running, text="two"))
