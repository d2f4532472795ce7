"""How a cache compresses and encrypts: from `compress=` and `encryption=`, or from the environment, to a Codec.

``$ASKONCE_COMPRESS`` and ``$ASKONCE_KEYS`` are read wherever a cache says nothing, so that commands and workers read
what an application stores. The value of ``$ASKONCE_KEYS`` is a ring of keys, or ``file:`` and the path of one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from askonce.cache import config
from askonce.core import libraries
from askonce.core.codec import PLAIN, Codec
from askonce.core.keyring import Keys
from askonce.core.spelling import meant
from askonce.core.wording import plain_function, shown, whole
from askonce.errors import ConfigError

COMPRESSIONS = ("zstd", "off")
NO = {"no", "none", "false", "0", "disabled"}
FILE = "file:"
OTHERS = 0o027  # of a file's mode: the group may read it, and others nothing

Encryption = Keys | Mapping[str, bytes | str] | os.PathLike[str] | str | bool | Callable[[], Any]


def codec_of(compress: str | bool | None, encryption: Encryption | None) -> Codec:
    """The codec of a cache; ConfigError if an option is invalid, or needs a library that is not installed."""
    name = find_compression(compress)
    keys = find_keys(encryption)
    if name == "off" and keys is None:
        return PLAIN
    if name == "zstd":
        libraries.zstandard()
    return Codec(compress=name == "zstd", keys=keys)


def find_compression(compress: str | bool | None) -> str:
    """``zstd`` or ``off``: as given, else by `configure`, else $ASKONCE_COMPRESS."""
    said = config.found("compress", compress)
    if said is None or said is False:
        return "off"
    if isinstance(said, str) and said in (*COMPRESSIONS, ""):
        return said or "off"
    who = config.giver("compress", compress)
    word = said.lower() if isinstance(said, str) else shown(said)
    right = word if word in COMPRESSIONS else meant(word, COMPRESSIONS)
    if right is None or word == "on":  # one letter from off, and its opposite
        right = "off" if word in NO else "zstd"
    raise ConfigError(
        f"{who}{shown(said)}: write {right!r} (also $ASKONCE_COMPRESS); there are {' and '.join(COMPRESSIONS)}"
    )


def find_keys(encryption: Encryption | None) -> Keys | None:
    """The ring of keys: as given, else by `configure`, else $ASKONCE_KEYS. None: nothing is encrypted."""
    said = config.setting("encryption", encryption)
    if said is False:
        return None
    if said is None or said is True:
        # An empty value is an error: a secret that a deployment lost must not store plain text.
        text = os.environ.get("ASKONCE_KEYS")
        if text is not None:
            with config.naming("ASKONCE_KEYS"):
                return _keys(text)
    return None if said is None else _keys(said)


def _keys(said: object) -> Keys:
    if isinstance(said, Keys):
        return said
    if isinstance(said, Mapping):
        return Keys(said)
    if isinstance(said, os.PathLike):
        return read_keys(said)
    if isinstance(said, str):
        return _read(said.removeprefix(FILE).strip()) if said.startswith(FILE) else Keys.parse(said)
    if callable(said):
        return _called(said)
    if said is True:
        raise ConfigError(
            "encryption=True, and $ASKONCE_KEYS is not set: set it to a ring of keys, as askonce keys prints"
        )
    raise ConfigError(
        f"encryption= is a {type(said).__name__}: give a dict of ids and keys, a pathlib.Path, a function that returns"
        " a ring of keys, True for $ASKONCE_KEYS, or False"
    )


def _read(path: str) -> Keys:
    if not path:
        raise ConfigError("file: names no file of keys: write file:/etc/askonce.keys")
    return read_keys(path)


def _called(function: Callable[[], Any]) -> Keys:
    """What a function returns, such as one that asks a key management service. It is called once for each cache."""
    if not plain_function(function):
        raise ConfigError(
            "the function given as encryption= is async: give a plain function that returns the ring of keys"
        )
    try:
        ring = function()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"the function given as encryption= raised {type(error).__name__}: {error}") from error
    if callable(ring) or ring is None or isinstance(ring, bool):
        raise ConfigError(f"the function given as encryption= returned {shown(ring)}: it must return a ring of keys")
    return _keys(ring)


def read_keys(named: os.PathLike[str] | str) -> Keys:
    """The ring in a file, which only its user and its group may read."""
    from pathlib import Path  # late: few caches read a file of keys

    from askonce.cache import files

    path = Path(named)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ConfigError(f"{whole(path)} is a folder: name a file of keys, which askonce keys --file FILE makes")
        if os.name == "posix" and mode & OTHERS:
            raise ConfigError(f"the keys in {whole(path)} may be read or changed by others: chmod 600 {path}")
        text = files.text_of(path)
    except OSError as error:
        raise ConfigError(
            f"the keys in {whole(path)} cannot be read: {error.strerror or error}; name a file that"
            " askonce keys --file FILE made"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"the file {whole(path)} is not text: write a line id=key for each key, as askonce keys prints"
        ) from None
    try:
        return Keys.parse(text)
    except ConfigError as error:
        raise type(error)(f"{path}: {error}") from None


def portable(encryption: Encryption | None) -> Encryption | None:
    """What stands for `encryption` in a pickle: never a key itself."""
    held = isinstance(encryption, Mapping) or (isinstance(encryption, str) and not encryption.startswith(FILE))
    return _keys(encryption) if held else encryption
