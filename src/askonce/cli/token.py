"""The admin token of a gateway, as a command finds it: in the environment or in a file, never on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from askonce.cache.files import text_of
from askonce.errors import UsageError

FILE = "file:"
NAMES = ("ASKONCE_TOKEN", "ASKONCE_ADMIN_TOKEN")  # the second one is the gateway's own
FILES = "ASKONCE_ADMIN_TOKEN_FILE"


class Token(NamedTuple):
    """A token, and where it comes from; both "" if there is none."""

    text: str
    source: str

    def __repr__(self) -> str:
        return f"<Token of {self.source}>"

    @property
    def remedy(self) -> str:
        """What to do if a gateway refuses it."""
        if not self.text:
            return "needs its admin token: set $ASKONCE_TOKEN, or ASKONCE_TOKEN=file:PATH"
        return f"refuses the token of {self.source}: it is not its admin token"


def token_of() -> Token:
    """The token of this environment. UsageError for a file that cannot be read."""
    for name in NAMES:
        told = os.environ.get(name, "").strip()
        if told.startswith(FILE):
            return _read(told.removeprefix(FILE), name)
        if told:
            return Token(_fit(told, name), f"${name}")
    if told := os.environ.get(FILES, "").strip():
        return _read(told, FILES)
    return Token("", "")


def _read(path: str, name: str) -> Token:
    try:
        text = text_of(Path(path).expanduser()).strip()
    except (OSError, UnicodeDecodeError) as wrong:
        why = getattr(wrong, "strerror", None) or "no UTF-8"
        raise UsageError(f"${name}: {path} cannot be read ({why}): name a file that holds the admin token") from None
    if not text:
        raise UsageError(f"${name}: {path} is empty: write the admin token into it")
    return Token(_fit(text, name), f"{path} (${name})")


def _fit(text: str, name: str) -> str:
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise UsageError(
            f"${name} is no token: it has spaces, ends of lines or letters that no header may have; set it to the"
            " gateway's admin token, or to file:PATH"
        )
    return text
