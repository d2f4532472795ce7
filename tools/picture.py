"""`python -m tools.picture`: run the demo and draw what it prints, as docs/demo.svg of the README."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path

from rich.console import Console

from askonce.cli.demo import WIDTH, Screen
from askonce.demo.load import Scale
from askonce.demo.scenes import run

PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"
TITLE = "$ make demo"


def main() -> int:
    """Draw it; 1 if the demo broke a promise, which is then not drawn."""
    console = Console(record=True, width=WIDTH, force_terminal=True, file=io.StringIO())
    report = asyncio.run(run(None, "", Scale(), Screen(console, None).look))
    if not report.kept:
        print(console.export_text(), file=sys.stderr)
        return 1
    # Without rich's fonts, which it would fetch from the network; a reader's own monospaced font draws as well.
    drawn = re.sub(r"@font-face \{.*?\}\n", "", console.export_svg(title=TITLE), flags=re.DOTALL)
    drawn = re.sub(r"font-family: Fira Code", "font-family: ui-monospace, Menlo, Consolas", drawn)
    PICTURE.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n", "utf-8")
    print(f"wrote {PICTURE.relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
