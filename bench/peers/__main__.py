"""`python -m bench.peers [PEER...]`: measure askonce beside other caches; all of them: write docs/peers.md."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import machine
from bench.peers.catalog import USES, Use, chosen
from bench.peers.measures import FULL, QUICK, Bench, Extent, everything
from bench.peers.page import page, plots

NOTES = machine.ROOT / "bench" / "peers.json"
PAGE = machine.ROOT / "docs" / "peers.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser("python -m bench.peers", description="Measure askonce beside other caches.")
    parser.add_argument("peers", nargs="*", metavar="PEER", help="only these, beside askonce; prints, writes nothing")
    parser.add_argument("--quick", action="store_true", help="a small size: does it work, not how well; writes nothing")
    parser.add_argument("--page", action="store_true", help="write the page again, of the last run's notes")
    parser.add_argument("--rooms", type=Path, default=Path(".venv/peers"), help="where environments are made and kept")
    said = parser.parse_args(arguments)
    if said.page:
        write(json.loads(NOTES.read_text("utf-8")))
        return 0
    try:
        uses = chosen(said.peers)
    except ValueError as unknown:
        parser.error(str(unknown))
    whole = not (said.quick or said.peers)
    run = measured(uses, said.rooms.resolve(), QUICK if said.quick else FULL, whole=whole)
    if whole:
        NOTES.write_text(json.dumps(run, indent=1) + "\n", "utf-8")
        write(run)
    else:
        print("\n" + page(run, uses))
    return 0


def measured(uses: Sequence[Use], rooms: Path, extent: Extent, *, whole: bool) -> dict[str, Any]:
    """One run: what it was measured on, how much was measured, and the notes of each peer."""
    began = time.monotonic()
    facts = _facts(whole=whole)
    notes = everything(Bench(uses, rooms, extent, _tell))
    if whole and _facts(whole=True)["commit"] != facts["commit"]:
        raise SystemExit("the commit changed while it was measured; measure it again")
    facts |= {"load after": machine.load(), "took": f"{time.monotonic() - began:.0f} s"}
    return {"facts": facts, "extent": extent._asdict(), "peers": notes}


def write(run: dict[str, Any]) -> None:
    """Write the page and its plots."""
    folder = PAGE.with_suffix("")
    folder.mkdir(exist_ok=True)
    for name, plot in plots(run, USES).items():
        (folder / f"{name}.svg").write_text(plot, "utf-8")
    PAGE.write_text(page(run, USES), "utf-8")


def _facts(*, whole: bool) -> dict[str, str]:
    """What it is measured on; SystemExit if the numbers are to be kept and would belong to no commit."""
    changed = machine.uncommitted()
    if whole and changed:
        raise SystemExit(
            f"numbers belong to a commit, and this tree is dirty:\n{changed}\n"
            "Commit it, or use --quick, or name peers; both print and write nothing."
        )
    facts = machine.facts()
    return {**facts, "commit": f"{facts['commit']} (dirty)"} if changed else facts


def _tell(said: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {said}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
