"""`python -m tools.dictionary`: train the dictionary, print what it gains, and write it with --write.

What it gains is measured by cross-validation over the projects that recorded the corpus: a dictionary is trained on the
answers of all but one, and compresses the answers of that one, which it has never seen.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import zstandard

from askonce.core.zstd import DICTIONARY, LEVEL
from tools.dictionary.check import found_of
from tools.dictionary.samples import Sample, recorded, rewritten, vocabulary

ROOT = Path(__file__).parents[2]
CORPUS = Path(os.environ.get("ASKONCE_CORPUS", ROOT.parent / "shared" / "corpus")) / "dev.jsonl.gz"
FOLDER = ROOT / "src" / "askonce" / "core" / "dictionaries"
SEED = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 1 if the dictionary would hold something of an answer."""
    parser = argparse.ArgumentParser("python -m tools.dictionary", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--size", type=int, default=32, metavar="KB", help="of the dictionary (default 32)")
    parser.add_argument("--write", action="store_true", help=f"write it as number {DICTIONARY}")
    said = parser.parse_args(arguments)
    if not CORPUS.exists():
        print("the recorded traffic is not here: set ASKONCE_CORPUS to the folder that has dev.jsonl.gz")
        return 2
    samples = recorded(CORPUS)
    _gains(samples, said.size * 1024)
    made = trained(samples, said.size * 1024)
    if found := found_of(made, samples):
        print(f"NOT WRITTEN: the dictionary holds pieces of answers: {found[:5]}")
        return 1
    print(f"{len(made)} bytes, without a piece of an answer")
    if said.write:
        (FOLDER / f"{DICTIONARY}.zdict").write_bytes(made)
    return 0


def trained(samples: Sequence[Sample], size: int) -> bytes:
    """The dictionary of these samples; the same for the same samples."""
    chance, words = random.Random(SEED), vocabulary(samples)
    shapes: list[bytes | bytearray | memoryview] = [rewritten(one, words, chance) for one in samples]
    made = zstandard.train_dictionary(size, shapes, dict_id=DICTIONARY, level=LEVEL, threads=0)
    return made.as_bytes()


def _gains(samples: Sequence[Sample], size: int) -> None:
    print(f"{'left out':45} {'answers':>8} {'median':>7} {'zstd':>6} {'with it':>8}   (bytes; of the plain size)")
    seen: list[tuple[float, float]] = []
    for source in sorted({one.source for one in samples}):
        inside = [one for one in samples if one.source != source]
        outside = [_stored(one) for one in samples if one.source == source]
        made = zstandard.ZstdCompressionDict(trained(inside, size))
        plain, packed = _ratio(outside, None), _ratio(outside, made)
        middle = statistics.median(map(len, outside))
        print(f"{source:45} {len(outside):8} {middle:7.0f} {plain:6.3f} {packed:8.3f}")
        seen.append((plain, packed))
    plain, packed = (statistics.mean(column) for column in zip(*seen, strict=True))
    print(f"{'mean':45} {'':8} {'':7} {plain:6.3f} {packed:8.3f}")


def _ratio(bodies: Sequence[bytes], dictionary: zstandard.ZstdCompressionDict | None) -> float:
    """Of the median answer's size: the large ones need no dictionary, and would hide what the small ones gain."""
    context = zstandard.ZstdCompressor(level=LEVEL, dict_data=dictionary)
    return statistics.median(len(context.compress(body)) / len(body) for body in bodies)


def _stored(one: Sample) -> bytes:
    head, text = one.head.encode(), one.text.encode()
    return len(head).to_bytes(4, "big") + head + text if head else text


if __name__ == "__main__":
    sys.exit(main())
