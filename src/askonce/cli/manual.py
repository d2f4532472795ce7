"""The page of the documentation about the command line, written from the commands' own help.

    python -m askonce.cli.manual > docs/cli.md

A test holds the page to it, so that neither can say what the other does not.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import typer

from askonce.cli.app import app

OPENING = """\
# Command line

<!-- written by: python -m askonce.cli.manual > docs/cli.md -->

`pip install 'askonce[cli]'` installs the command `askonce`.

Every command finds the store as a `Cache` does. It uses the first of these that is set: `--url`, `$ASKONCE_URL`,
`$REDIS_URL`, the SQLite file in your cache folder. The exception is `demo`: without `--url` it uses a temporary file.
`--json` prints one JSON document and nothing else. An error is one line on standard error. No command creates an
SQLite file that was not there. A gateway is asked like a store: name it by `--url http://host:port` or `https://`, and
set `$ASKONCE_TOKEN` to its admin token (see [the admin API](admin.md)). `python -m askonce` is the same command.
`askonce --install-completion` makes your shell complete commands and options.

A terminal shows tables that fit it: a long word is cut, and shows it (`…`), and a narrow terminal leaves out the last
columns. `NO_COLOR=1` switches colours off. A pipe gets plain text and no colours, whatever `$FORCE_COLOR` says: one
heading, and tab-separated lines with all columns and whole values. Control characters are shown as text in both.

```console
$ askonce ls | cut -f1,7                                  # whole keys, and their scopes
$ askonce doctor | awk -F'\\t' '$1 == "bad" {print $4}'    # what to do
```

| exit code | meaning |
|---|---|
| 0 | the command succeeded |
| 1 | the command failed: an unreachable store, a bad check, a broken promise |
| 2 | the command line is wrong |
"""


def page() -> str:
    """The whole page, in Markdown."""
    group: Any = typer.main.get_command(app)
    return "\n".join([OPENING, *(line for name, one in group.commands.items() for line in _command(name, one))])


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## askonce {name}\n"
    yield command.help.strip() + "\n"
    yield f"```console\n$ {command.epilog.removeprefix('Example: ')}\n```\n"
    yield "| option | |"
    yield "|---|---|"
    for option in command.params:
        if option.name != "help":
            yield _option(option)
    yield ""


def _option(option: Any) -> str:
    names = ", ".join(f"`{name} {option.metavar}`" if option.metavar else f"`{name}`" for name in option.opts)
    given = option.default not in (None, False, "") and f" Default: {option.default}."
    return f"| {names} | {option.help}{given or ''} |"


if __name__ == "__main__":
    sys.stdout.write(page())
