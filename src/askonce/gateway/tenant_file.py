"""The file that maps credentials to tenants: a line ``DIGEST NAME`` for each, where DIGEST is a sha256 in hex."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from askonce.cache import files
from askonce.errors import ConfigError

LONGEST = 100  # characters of a tenant's name
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digest_of(credential: str | bytes) -> str:
    """The digest that stands for a credential in such a file: sha256 of the bare key, in hex."""
    raw = credential.encode("utf-8", "surrogateescape") if isinstance(credential, str) else credential
    return hashlib.sha256(raw).hexdigest()


def name_problem(name: str) -> str:
    """What is wrong with a tenant's name, "" if nothing. A name that looks like a digest could be a credential's."""
    if not name or len(name) > LONGEST or not name.isprintable() or name != name.strip():
        return f"{name[:20]!r} is no name of a tenant: write 1 to {LONGEST} printable characters"
    if _DIGEST.fullmatch(name.lower()):
        return "a digest in place of a name: write the digest first and the name after it"
    return ""


def text_of(path: Path) -> str:
    """The text of a file that an operator names; ConfigError if it cannot be read."""
    try:
        return files.text_of(path)
    except (OSError, UnicodeDecodeError) as wrong:
        why = getattr(wrong, "strerror", None) or "it is not UTF-8"
        raise ConfigError(
            f"{path}: cannot be read ({why}): name a file that is there, and that this user may read"
        ) from None


def read_tenants(path: Path) -> dict[str, str]:
    """The names by digest. ConfigError with the line of what is wrong; no digest is repeated."""
    found: dict[str, str] = {}
    problems = []
    for number, line in enumerate(text_of(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        digest, _, name = line.strip().partition(" ")
        if problem := _problem(digest, name.strip(), found):
            problems.append(f"{path}:{number}: {problem}")
        found[digest.lower()] = name.strip()
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _problem(digest: str, name: str, found: dict[str, str]) -> str:
    if not _DIGEST.fullmatch(digest.lower()):
        # It may be a credential that was written in place of its digest.
        return "the line does not begin with a digest of 64 hex digits: `askonce digest` makes one of a key"
    if not name:
        return "a digest without a name: write the tenant's name after it"
    if found.get(digest.lower(), name) != name:
        return "a digest that another line gives to another tenant: remove one of the two lines"
    return name_problem(name)
