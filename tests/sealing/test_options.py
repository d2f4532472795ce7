"""compress= and encryption=: where they come from, and what is said of invalid ones when a cache is made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import askonce
from askonce import Cache, ConfigError, Keys
from askonce.cache import config
from askonce.core import libraries

KEY = os.urandom(32)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASKONCE_KEYS", "ASKONCE_COMPRESS"):
        monkeypatch.delenv(name, raising=False)


def made(**options: Any) -> Cache:
    return Cache("memory://", **options)


@pytest.mark.parametrize(
    ("said", "meant"), [("zst", "zstd"), ("ZSTD", "zstd"), ("gzip", "zstd"), (True, "zstd"), (7, "zstd"), ("of", "off")]
)
def test_an_unknown_compression_is_an_error_that_names_the_nearest(said, meant):
    with pytest.raises(ConfigError, match=f"write '{meant}'"):
        made(compress=said)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({}, "empty"),
        ({"a": KEY[:31]}, "31 bytes"),
        ("", "empty"),
        (b"bytes", "give a dict of ids and keys"),
        (7, "give a dict of ids and keys"),
        (["a"], "give a dict of ids and keys"),
        (True, "ASKONCE_KEYS is not set"),
        (lambda: None, "returned None"),
        (lambda: {"a": b"short"}, "5 bytes"),
        (lambda: 1 / 0, "raised ZeroDivisionError"),
        (lambda: made, "must return a ring"),
        ("file:/nowhere/keys", "cannot be read"),
        (Path("/nowhere/keys"), "cannot be read"),
    ],
)
def test_an_invalid_ring_is_an_error_when_the_cache_is_made(said, says):
    with pytest.raises(ConfigError, match=says):
        made(encryption=said)


@pytest.mark.skipif(os.name != "posix", reason="files have no modes here")
@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620, 0o601, 0o666])
def test_a_file_of_keys_that_others_may_read_or_change_is_refused(tmp_path, mode):
    path = tmp_path / "keys"
    path.write_text(f"a={KEY.hex()}")
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"chmod 600 {path}"):
        made(encryption=path)


def test_a_file_that_is_no_ring_is_named(tmp_path):
    path = tmp_path / "keys"
    path.touch(0o600)
    for data, says in ((b"\xff\xfe", "not text"), (b"a=1", "bytes"), (b"", "empty")):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=says) as error:
            made(encryption=path)
        assert str(path) in str(error.value)


def ids(cache: Cache) -> tuple[str, ...]:
    with cache:
        return cache._base.codec.ids


def test_keys_come_from_the_call_the_defaults_or_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "keys"
    path.write_text(f"of-file={KEY.hex()}")
    path.chmod(0o640)
    assert ids(made()) == ()
    assert ids(made(encryption=path)) == ids(made(encryption=f"file:{path}")) == ("of-file",)
    assert ids(made(encryption=lambda: path)) == ("of-file",)
    assert ids(made(encryption=lambda: f"of-function={KEY.hex()}")) == ("of-function",)
    monkeypatch.setenv("ASKONCE_KEYS", f"of-environment={KEY.hex()}")
    assert ids(made()) == ids(made(encryption=True)) == ("of-environment",)
    assert ids(made(encryption=False)) == ()
    assert ids(made(encryption=Keys({"of-call": KEY}))) == ("of-call",)
    monkeypatch.setenv("ASKONCE_KEYS", f"file:{path}")
    assert ids(made()) == ("of-file",)
    monkeypatch.setitem(config._configured, "encryption", {"of-defaults": KEY})
    assert ids(made()) == ("of-defaults",)


def test_an_empty_environment_variable_is_an_error_and_no_silence(monkeypatch):
    monkeypatch.setenv("ASKONCE_KEYS", "")
    with pytest.raises(ConfigError, match="empty"):
        made()
    monkeypatch.setenv("ASKONCE_COMPRESS", "")
    assert not made(encryption=False)._base.codec.writes


def test_the_environment_compresses(monkeypatch):
    monkeypatch.setenv("ASKONCE_COMPRESS", "zstd")
    assert made()._base.codec.writes
    assert not made(compress="off")._base.codec.writes
    assert not made(compress=False)._base.codec.writes


def test_a_missing_library_is_an_error_that_names_the_extra(monkeypatch):
    def missing(module: str) -> Any:
        raise ImportError(f"No module named {module!r}")

    monkeypatch.setattr(libraries, "import_module", missing)
    for asked in (libraries.zstandard, libraries.aes_gcm):
        asked.cache_clear()
    try:
        with pytest.raises(ConfigError, match=r"pip install 'askonce\[zstd\]'"):
            made(compress="zstd")
        with pytest.raises(ConfigError, match=r"pip install 'askonce\[crypto\]'"):
            made(encryption={"a": KEY})
    finally:
        for asked in (libraries.zstandard, libraries.aes_gcm):
            asked.cache_clear()


def test_the_default_cache_is_made_anew_when_its_keys_are_configured(monkeypatch):
    monkeypatch.setenv("ASKONCE_URL", "memory://")
    askonce._default.clear()
    monkeypatch.setattr(config, "_configured", dict(config._configured))
    first = askonce.default_cache()
    askonce.configure(encryption={"a": KEY}, compress="zstd")
    second = askonce.default_cache()
    assert second is not first
    assert second._base.codec.ids == ("a",)
    askonce._default.clear()


@pytest.mark.waits
def test_a_program_without_these_options_imports_neither_library():
    program = (
        "import sys, askonce\n"
        "cache = askonce.Cache('memory://')\n"
        "cache.fetch({'a': 1}, lambda: {'b': 'c' * 999}); cache.fetch({'a': 1}, lambda: 1)\n"
        "assert not {'zstandard', 'cryptography'} & sys.modules.keys(), sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
