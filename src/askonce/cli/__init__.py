"""The command line. It only shows what the folders below it compute. It needs the extra `cli` (typer and rich).

Nothing is decided here. This module imports neither typer nor rich: an installation without the extra gets an error of
one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from askonce.cli import output

EXTRA = {"typer", "rich", "click"}  # click: older versions of typer need it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 it succeeded, 1 it failed, 2 the command line is wrong."""
    output.prepare()
    try:
        from askonce.cli.app import run

        return run(arguments)
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write(f"askonce: {missing.name} is not installed: pip install 'askonce[cli]'\n")
        return 1
    except KeyboardInterrupt:
        return 130  # the exit code that shells use for an interrupted program
    except OSError as error:
        if not (said := output.problem(error)):
            raise
        output.discard()
        sys.stderr.write(f"askonce: {said}\n")
        return 1
