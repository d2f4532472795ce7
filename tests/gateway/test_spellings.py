"""A setting that can be given as a flag, as a variable and in the file means the same in all three.

Generated from the sections, so that a new setting is tried by itself.
"""

from __future__ import annotations

import dataclasses
import json

import pytest

from askonce import ConfigError
from askonce.cache.base import base_of
from askonce.cache.pricing import pricer_of
from askonce.flight.pricing import UNPRICED
from askonce.gateway.config import load
from askonce.gateway.serving import new_cache
from askonce.gateway.settings import SECTIONS

RING = f"a={'1a' * 32}"
TEXTS = [
    "off",
    "OFF",
    "on",
    "no",
    "none",
    "true",
    "false",
    "0",
    "1",
    "-0",
    "7",
    "1e3",
    "nan",
    "64MB",
    "1kb",
    " zstd ",
    "zstd",
]
TEXTS += [
    "127.0.0.1",
    "::",
    "llm:v3",
    "memory://a",
    "sqlite:///a.db",
    "reddis://a",
    "refresh",
    "prices.toml",
    "nowhere",
]
TEXTS += [
    "file:keys",
    "file:nowhere",
    "file:",
    RING,
    "warning",
    "shared",
    "token.txt",
    "0123456789abcdef0123",
    "\u202e",
    "a\tb",
]

SETTINGS = [
    (section, one)
    for section, kind in SECTIONS.items()
    for one in dataclasses.fields(kind)
    if one.metadata["env"] or one.metadata["flag"]
]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder in which the files are that settings name."""
    monkeypatch.chdir(tmp_path)
    for name, text in (
        ("prices.toml", "[models.m]\ninput = 1\noutput = 2\n"),
        ("keys", RING),
        ("token.txt", "0123456789abcdef0123"),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    for name in ("ASKONCE_NEAR", "ASKONCE_KEYS", "ASKONCE_PRICES", "ASKONCE_URL", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def read(section, one, *given):
    """The value of a setting, or that it is wrong."""
    try:
        return getattr(getattr(load(*given), section), one.name)
    except ConfigError:
        return "wrong"


def written(here, section, one, text, value):
    """The same in a file: text in quotes; a number or a truth as the environment had it read."""
    said = json.dumps(
        text.strip() if one.type.startswith(("str", "tuple")) or not isinstance(value, int | float) else value
    )
    (here / "askonce.toml").write_text(f"[{section}]\n{one.name} = {said}\n")
    return "askonce.toml"


@pytest.mark.parametrize(("section", "one"), SETTINGS, ids=[f"{section}.{one.name}" for section, one in SETTINGS])
def test_each_setting_means_the_same_as_a_flag_as_a_variable_and_in_the_file(here, section, one):
    if (section, one.name) == ("admin", "token_file"):
        assert "token.txt" in read(section, one, None, {"ASKONCE_ADMIN_TOKEN_FILE": "token.txt"})
    for text in TEXTS:
        if (section, one.name) == ("tenants", "by") and text == "shared":
            continue  # in a file it needs nothing more, and everything else does
        found = {}
        if one.metadata["env"] and not (one.name == "near" and text == "64MB"):
            found["environment"] = read(section, one, None, {one.metadata["env"]: text})
        if one.metadata["flag"]:
            flag = (text == "true") if one.metadata["flag"] == "log-requests" else text.strip()
            found["flag"] = read(section, one, None, None, {f"{section}.{one.name}": flag})
        if one.metadata["flag"] == "log-requests":
            del found["flag"]  # it takes no value
        value = next(iter(found.values()))
        found["file"] = read(section, one, written(here, section, one, text, value))
        assert len(set(map(repr, found.values()))) == 1, (text, found)


@pytest.mark.parametrize("given", ["file", "environment", "flag"])
def test_off_means_no_prices_wherever_it_is_given(here, monkeypatch, given):
    monkeypatch.setenv("ASKONCE_URL", "memory://")
    (here / "askonce.toml").write_text("[prices]\nfile = 'off'\n")
    config = {
        "file": lambda: load("askonce.toml"),
        "environment": lambda: load(None, {"ASKONCE_PRICES": "off"}),
        "flag": lambda: load(None, None, {"prices.file": "off"}),
    }[given]()
    assert base_of(new_cache(config))._pricer is UNPRICED is pricer_of("off")


def test_what_a_flag_or_a_file_says_goes_before_the_environment_also_if_it_is_nothing(here, monkeypatch):
    for name, value in (("URL", "redis://127.0.0.1:1/0"), ("PREFIX", "theirs"), ("NEAR", "64MB"), ("MODE", "off")):
        monkeypatch.setenv(f"ASKONCE_{name}", value)
    flags = {"store.prefix": "", "store.near": "0", "store.mode": "on"}
    cache = base_of(new_cache(load(None, {"ASKONCE_PREFIX": "theirs", "ASKONCE_NEAR": "64MB"}, flags)))
    assert (cache.prefix, cache.engine().store.near, cache.mode) == ("", None, "on")
    (here / "askonce.toml").write_text("[store]\nprefix = ''\nnear = 0\n")
    cache = base_of(new_cache(load("askonce.toml")))
    assert (cache.prefix, cache.engine().store.near) == ("", None)
    cache = base_of(new_cache(load()))
    assert (cache.prefix, cache.engine().store.near is not None) == ("theirs", True)


def test_a_near_cache_of_the_environment_holds_where_the_store_can_have_one(here):
    for url, near in (("memory://", None), ("redis://127.0.0.1:1/0", 64_000_000)):
        config = load(None, {"ASKONCE_NEAR": "64MB"}, {"store.url": url})
        assert config.store.near == near
        new_cache(config)
    with pytest.raises(ConfigError, match="leave near= out"):
        new_cache(load(None, None, {"store.near": "64MB", "store.url": "memory://"}))


@pytest.mark.parametrize(
    ("section", "line", "right"),
    [
        ("store", "url = 'reddis://h'", "redis://"),
        ("store", "encryption = 'file:nowhere'", "askonce keys --file"),
        ("store", "encryption = 'hunter2'", "file:PATH"),
        ("prices", "file = 'nowhere.toml'", "TOML or JSON"),
        ("prices", "file = 'keys'", "docs/savings.md"),
    ],
)
def test_what_no_cache_could_be_made_with_is_told_with_its_line(here, section, line, right):
    (here / "askonce.toml").write_text(f"[server]\nport = 'x'\n[{section}]\n{line}\n")
    with pytest.raises(ConfigError) as wrong:
        load("askonce.toml")
    first, second = str(wrong.value).splitlines()
    assert first.startswith("askonce.toml:2: ")
    assert second.startswith("askonce.toml:4: ")
    assert right in second
    assert "hunter2" not in second


def test_files_that_a_file_names_are_in_its_folder_and_may_begin_with_a_byte_order_mark(here, monkeypatch):
    folder = here / "etc"
    folder.mkdir()
    for name in ("prices.toml", "keys", "token.txt"):
        (folder / name).write_text((here / name).read_text(), "utf-8-sig")
        (folder / name).chmod(0o600)
    (folder / "askonce.toml").write_text(
        "[store]\nurl = 'memory://'\nencryption = 'file:keys'\n[prices]\nfile = 'prices.toml'\n"
        "[admin]\ntoken_file = 'token.txt'\n",
        "utf-8-sig",
    )
    config = load(folder / "askonce.toml")
    assert config.admin.token == "0123456789abcdef0123"
    assert (config.store.encryption, config.prices.file) == (f"file:{folder / 'keys'}", str(folder / "prices.toml"))
    assert base_of(new_cache(config)).codec.ids == ("a",)
