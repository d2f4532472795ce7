"""`python -m tools.sizes`: how large the wheel is, folder by folder, and how large it would be, made in another way.

None of these ways is taken: an installation should be readable, and a debugger should show what was written.
"""

from __future__ import annotations

import ast
import lzma
import sys
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from tools.wheel import build

FRAME = 76  # bytes that an archive takes for a file, besides its name, twice
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

Files = Mapping[str, bytes]


def files(wheel: Path) -> dict[str, bytes]:
    """The files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(data: bytes, level: int = 6) -> int:
    """The bytes of data in a wheel."""
    deflate = zlib.compressobj(level, zlib.DEFLATED, -15, 9)
    return len(deflate.compress(data) + deflate.flush())


def size(of: Files, level: int = 6) -> int:
    """The bytes of a wheel with these files."""
    return sum(packed(data, level) + 2 * len(name) + FRAME for name, data in of.items())


def folders(of: Files) -> Counter[str]:
    """The bytes of each folder of the package, and of what is about it."""
    sums = Counter[str]()
    for name, data in of.items():
        parts = name.split("/")
        sums["/".join(parts[:2]) if len(parts) > 2 else name if "dist-info" in name else parts[0]] += size({name: data})
    return sums


def without(of: Files, *prefixes: str) -> Files:
    """The files of a package that has not these folders."""
    return {name: data for name, data in of.items() if not name.startswith(prefixes)}


def stripped(of: Files, *, docstrings: bool) -> Files:
    """The files with the code alone: no comment, and no docstring either unless `docstrings`."""
    return {name: _code(data, docstrings) if name.endswith(".py") else data for name, data in of.items()}


def _code(source: bytes, docstrings: bool) -> bytes:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not docstrings and isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            node.body[0] = ast.Pass()
    return ast.unparse(tree).encode()


def otherwise(of: Files) -> dict[str, int]:
    """The bytes of each way to make it."""
    everything = b"".join(of.values())
    library = without(of, *(f"askonce/{one}/" for one in ("gateway", "cli", "demo", "testing", "recording")))
    return {
        "as it is": size(of),
        "compressed at level 9": size(of, 9),
        "without comments": size(stripped(of, docstrings=True)),
        "without comments and docstrings": size(stripped(of, docstrings=False)),
        "the library alone: no gateway, cli, demo, testing, recording": size(library),
        "all files as one xz stream, which no wheel can be": len(
            lzma.compress(everything, preset=9 | lzma.PRESET_EXTREME)
        ),
    }


def main() -> int:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as folder:
        found = files(build(Path(folder)).wheel)
    for table in (folders(found).most_common(), otherwise(found).items()):
        for name, number in table:
            print(f"{number / 1000:7.0f} KB  {name}")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
