"""``askonce digest``: the digest of an API key, for the file that maps keys to tenants."""

from __future__ import annotations

import getpass
import sys
from typing import Annotated

import typer

from askonce.cli.reading import text_in
from askonce.errors import UsageError
from askonce.gateway.tenant_file import digest_of, name_problem

Tenant = Annotated[str, typer.Option("--tenant", metavar="NAME", help="Print the whole line for the file.")]


def digest(tenant: Tenant = "") -> None:
    """Print the digest of an API key, for a file of tenants.

    The key is read from standard input, a line for each; a terminal is asked for one, which it does not show. It is
    never an argument: other users of the machine can read those.
    """
    if tenant and (problem := name_problem(tenant)):
        raise UsageError(f"--tenant: {problem}")
    keys = [line.strip() for line in _lines()]
    if not any(keys):
        raise UsageError("no key on standard input: write `askonce digest < FILE`, or type it when you are asked")
    for one in filter(None, keys):
        print(f"{digest_of(one)} {tenant}".strip())


def _lines() -> list[str]:
    if sys.stdin is not None and sys.stdin.isatty():
        return [getpass.getpass("API key: ")]
    return text_in("-", "standard input", "write a key on each line").splitlines()
