"""``askonce keys``: makes the keys that encrypt a store, and rotates them."""

from __future__ import annotations

import base64
import contextlib
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from askonce.cache.files import text_of
from askonce.cache.sealing import read_keys
from askonce.cli import say
from askonce.core.keyring import NAMES, SIZE, Keys, check_id
from askonce.errors import UsageError

File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The file of keys to make or to change.")]
Add = Annotated[bool, typer.Option("--add", help="Add a new key, which only decrypts until --first names it.")]
First = Annotated[str | None, typer.Option("--first", metavar="ID", help="Encrypt with this key from now on.")]
Id = Annotated[str | None, typer.Option("--id", metavar="ID", help="The id of the new key. Default: today's date.")]

HEAD = "# Keys of askonce: the first encrypts, all decrypt. The line names= keys the digests of questions: keep it."


def keys(file: File = None, add: Add = False, first: First = None, name: Id = None) -> None:
    """Make or rotate the keys that encrypt a store.

    Without options the command prints a new ring of keys, for $ASKONCE_KEYS. With --file it writes one, for
    ASKONCE_KEYS=file:FILE. To rotate keys without losing answers: --add a key, give the file to all processes, then
    name the key with --first, and give them the file again. Remove the old key when no entry names it (see doctor).
    """
    if add and first is not None:
        raise UsageError("--add and --first are two steps: a key must be everywhere before it encrypts")
    if str(file) == "-":
        raise UsageError("--file - names no file: leave --file out to have a ring printed")
    if file is None:
        if add or first is not None:
            raise UsageError("--add and --first change a file of keys: name it with --file")
        print(",".join(_made(name)))
    elif add:
        _replace(file, [*_lines(file), _line(_today(read_keys(file)) if name is None else check_id(name))])
    elif first is not None:
        _replace(file, _reordered(_lines(file), first, read_keys(file)))
    else:
        _create(file, _text(_made(name)))
    if file is not None:
        say.sentence(f"{file}: {', '.join(read_keys(file).ids)} (the first encrypts)")


def _made(name: str | None) -> list[str]:
    return [_line(_today(None) if name is None else check_id(name)), _line(NAMES)]


def _line(name: str) -> str:
    checked = name if name == NAMES else check_id(name)
    return f"{checked}={base64.b64encode(secrets.token_bytes(SIZE)).decode()}"


def _today(ring: Keys | None) -> str:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    taken = set(() if ring is None else ring.ids)
    return next(one for one in (today, *(f"{today}.{number}" for number in range(2, 1000))) if one not in taken)


def _lines(file: Path) -> list[str]:
    """The lines of the keys in a file, and one for the names even where there is none yet."""
    ring = read_keys(file)
    text = text_of(file)
    lines = [part for line in text.splitlines() for part in line.partition("#")[0].replace(",", " ").split()]
    if ring.names_from:
        secret = ring.names_secret
        lines.append(f"{NAMES}={base64.b64encode(secret).decode()}")
    return lines


def _reordered(lines: list[str], first: str, ring: Keys) -> list[str]:
    if first not in ring.ids:
        raise UsageError(f"the file has no key {first}: it has {', '.join(ring.ids)}")
    chosen = [line for line in lines if line.partition("=")[0] == first]
    return [*chosen, *(line for line in lines if line not in chosen)]


def _text(lines: list[str]) -> str:
    return "\n".join([HEAD, *lines, ""])


def _create(file: Path, text: str) -> None:
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"{file} exists: add a key to it with --add, or name another file") from None
    except OSError as error:
        raise UsageError(
            f"{file} cannot be written ({error.strerror}): name a file in a folder that is yours"
        ) from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write(text)
    except OSError as error:  # a disk without room: half a ring is worse than none
        file.unlink(missing_ok=True)
        raise UsageError(f"{file} cannot be written: {error.strerror}") from None


def _replace(file: Path, lines: list[str]) -> None:
    """Put a new file in place of the old one in one step, with its rights: a reader sees one of the two."""
    Keys.parse(_text(lines))
    beside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    _create(beside, _text(lines))
    try:
        beside.chmod(file.stat().st_mode & 0o777)
        beside.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise UsageError(f"{file} cannot be changed: {error.strerror}") from None
