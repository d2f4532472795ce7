"""The command line. It is thin: what it shows is worked out below it, and it needs the extra `cli` (typer and rich).

Nothing is decided here. This module imports neither extra: the mistake that everybody makes once, installing without
the extra, ends in one line.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

EXTRA = {"typer", "rich", "click"}  # click: what older versions of typer stand on


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0 done, 1 it failed, 2 it was asked for in a way that cannot be meant."""
    try:
        from askonce.cli.app import run

        return run(arguments)
    except ImportError as missing:
        if (missing.name or "").partition(".")[0] not in EXTRA:
            raise
        sys.stderr.write(f"askonce: {missing.name} is not installed: pip install 'askonce[cli]'\n")
        return 1
    except KeyboardInterrupt:
        return 130  # as a shell says it of a program that was interrupted
