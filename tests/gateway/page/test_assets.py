"""Scripts and styles: from the package, as their authors published them, small, and kept by browsers for good."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import httpx2
import pytest

import askonce
from askonce.gateway.page.assets import MADE_OF, Assets

PAGE = Path(askonce.__file__).parent / "gateway" / "page"
STATIC = PAGE / "static"
VENDOR = STATIC / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())
FILES = {name: said["sha256"] for package in MANIFEST for name, said in package["files"].items()}
OWN_CSS, ALL = 4096, 60_000  # bytes; the second is compressed


@pytest.mark.parametrize("name", FILES)
def test_what_others_made_is_byte_for_byte_what_the_manifest_says(name):
    assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == FILES[name]


def test_everything_in_the_folder_is_in_the_manifest_and_has_its_licence_beside_it():
    assert {path.name for path in VENDOR.iterdir()} == {*FILES, "manifest.json"}
    for package in MANIFEST:
        assert package["licence_file"] in package["files"]
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])


@pytest.mark.slow
def test_the_registry_has_the_same_bytes(registries, tmp_path):
    from tools import vendor

    if not vendor.npm():
        pytest.skip("npm is not installed")
    for package in MANIFEST:
        assert vendor.differences(package, tmp_path) == []


async def test_a_page_weighs_little(browse):
    page = (await browse.get("")).content
    assert len((STATIC / "page.css").read_bytes()) < OWN_CSS
    weights = {name: len(asset.packed) for name, asset in Assets().files.items()}
    assert sum(weights.values()) + len(gzip.compress(page)) <= ALL, weights


def test_every_file_that_a_page_names_is_served_and_every_file_is_named():
    named = set(re.findall(r"asset\('([^']+)'\)", "".join(path.read_text() for path in PAGE.glob("templates/*.html"))))
    assert named == set(MADE_OF)


def test_every_script_and_style_of_the_package_is_part_of_what_is_served():
    shipped = {
        path.relative_to(STATIC).as_posix() for path in STATIC.rglob("*") if path.suffix in {".js", ".css", ".svg"}
    }
    assert {part for parts in MADE_OF.values() for part in parts} == shipped


async def test_files_are_kept_for_good_under_the_name_of_their_version(stranger):
    version = Assets().version
    for name, parts in MADE_OF.items():
        answer = await stranger.get(f"static/{version}/{name}")
        assert answer.status_code == 200
        assert answer.content == b"\n".join((STATIC / part).read_bytes() for part in parts)
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-encoding"] == "gzip"
        again = await stranger.get(f"static/{version}/{name}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_page_of_another_version_gets_a_file_that_is_not_kept(stranger):
    answer = await stranger.get("static/0000000000000000/page.js")
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")


@pytest.mark.parametrize("name", ["../app.py", "%2e%2e/app.py", "vendor/../../app.py", "vendor/manifest.json", "", "x"])
async def test_only_these_files_are_served(app, name):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://page") as client:
        for version in (Assets().version, "..", "x/.."):
            answer = await client.get(f"/_askonce/static/{version}/{name}")
            assert answer.status_code in {303, 307, 404}
            assert "import" not in answer.text


async def test_a_client_that_cannot_decompress_gets_the_plain_file(stranger):
    answer = await stranger.get(f"static/{Assets().version}/page.js", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.slow
def test_a_wheel_has_templates_scripts_styles_and_licences(registries, tmp_path):
    root = Path(askonce.__file__).parents[2]
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, root], check=True)
    (wheel,) = tmp_path.glob("askonce-*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    wanted = [path for folder in ("static", "templates") for path in (PAGE / folder).rglob("*") if path.is_file()]
    assert len(wanted) > 15
    assert {path.relative_to(PAGE.parents[2]).as_posix() for path in wanted} <= shipped
