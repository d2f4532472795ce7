"""What the dashboard ships of others: fetched from the npm registry, checked, and written beside its manifest.

``python -m tools.vendor`` compares what is shipped with the registry. ``python -m tools.vendor --write`` writes the
files of the versions that the manifest names: to take a new version, change it there first.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parents[1] / "src/askonce/gateway/page/static/vendor"
MANIFEST = VENDOR / "manifest.json"


def npm() -> str | None:
    """The path of npm, if it is installed."""
    return shutil.which("npm")


def fetched(package: dict[str, Any], room: Path) -> tuple[str, dict[str, bytes]]:
    """The integrity of a package in the registry, and its files by the names that they have here."""
    name = f"{package['package']}@{package['version']}"
    done = subprocess.run(["npm", "pack", "--silent", name], cwd=room, capture_output=True, text=True, check=True)
    archive = room / done.stdout.split()[-1]
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    with tarfile.open(archive) as opened:
        return f"sha512-{digest}", {name: _read(opened, said["from"]) for name, said in package["files"].items()}


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    member = archive.extractfile(name)
    assert member is not None, name
    return member.read()


def differences(package: dict[str, Any], room: Path) -> list[str]:
    """What of a package is not as the registry has it."""
    integrity, files = fetched(package, room)
    wrong = [name for name, data in files.items() if (VENDOR / name).read_bytes() != data]
    return wrong + ([] if integrity == package["integrity"] else [f"integrity of {package['package']}: {integrity}"])


def write(package: dict[str, Any], room: Path) -> None:
    """Write the files of a package, and their digests into the manifest."""
    package["integrity"], files = fetched(package, room)
    for name, data in files.items():
        (VENDOR / name).write_bytes(data)
        package["files"][name]["sha256"] = hashlib.sha256(data).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.vendor", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files of the manifest's versions")
    wanted = parser.parse_args()
    manifest = json.loads(MANIFEST.read_text("utf-8"))
    with tempfile.TemporaryDirectory() as room:
        if wanted.write:
            for package in manifest:
                write(package, Path(room))
            MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
            return 0
        wrong = [one for package in manifest for one in differences(package, Path(room))]
    print("\n".join(wrong) or "as in the registry")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
