"""The package: what is in it is allowed and tracked, what is not allowed is found, and its page has no relative link."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import re
import sys
import tarfile
import tomllib
import zipfile

import pytest

from tests.tools.test_index_page import Shown
from tools import sizes, wheel
from tools.blocks import ROOT
from tools.wheel import ABOUT, BESIDE, SHIPPED, Built

VENDOR = "askonce/gateway/page/static/vendor"
STRAYS = [
    "askonce/core/__pycache__/keys.cpython-311.pyc",
    "askonce/answers.db",
    "askonce/core/notes.md",
    "askonce/gateway/page/static/vendor/package-lock.json",
    "askonce/gateway/page/static/screen.png",
    "askonce/store/redis/lua/claim.lua.orig",
    "askonce/.coverage",
    "askonce.egg-info/PKG-INFO",
    "tests/test_layout.py",
    "build/lib/askonce/py.typed",
]
LEFTOVERS = [
    ".venv/pyvenv.cfg",
    "src/askonce/core/__pycache__/keys.cpython-311.pyc",
    "tests/.hypothesis/unicode_data/codec.json.gz",
    "bench/answers.db-wal",
    "docs/conf.pyc",
    "build/site/index.html",
    "uv.lock",
    ".ci/run",
]


@pytest.fixture(scope="module")
def project():
    found = wheel.tracked()
    if found is None:
        pytest.skip("this is no clone of the repository")
    return found


def made(folder, in_wheel, in_sdist):
    """A wheel and a source distribution with these names."""
    built = Built(folder / "askonce-1.tar.gz", folder / "askonce-1-py3-none-any.whl")
    with zipfile.ZipFile(built.wheel, "w") as archive:
        for name in in_wheel:
            archive.writestr(name, "")
    with tarfile.open(built.sdist, "w:gz") as archive:
        for name in in_sdist:
            archive.addfile(tarfile.TarInfo(f"askonce-1/{name}"), io.BytesIO())
    return built


def test_each_tracked_file_of_the_package_may_be_in_a_wheel(project):
    ours = [name.removeprefix("src/") for name in project if name.startswith("src/")]
    assert len(ours) > 300
    assert wheel.stray(ours, SHIPPED) == []


def test_each_pattern_is_of_use(project):
    ours = [*project, *(name.removeprefix("src/") for name in project), "PKG-INFO"]
    assert [one for one in (*SHIPPED, *BESIDE) if len(wheel.stray(ours, [one])) == len(ours)] == []


def test_files_that_are_no_part_of_the_project_are_found_in_both(tmp_path):
    about = [f"askonce-1.dist-info/{name}" for name in ABOUT if "*" not in name]
    built = made(tmp_path, ["askonce/__init__.py", *about, *STRAYS], ["src/askonce/__init__.py", *LEFTOVERS])
    found = wheel.differences(built, None)
    assert sorted(found) == sorted(
        [f"{name}: stray in the wheel" for name in STRAYS]
        + [f"{name}: stray in the source distribution" for name in LEFTOVERS]
    )


def test_a_file_of_an_allowed_kind_must_be_tracked_and_one_that_is_tracked_must_be_there(tmp_path):
    built = made(tmp_path, ["askonce/a.py", "askonce/mine.py"], ["src/askonce/a.py", "tests/test_mine.py"])
    assert wheel.differences(built, {"src/askonce/a.py", "src/askonce/b.py", "README.md"}) == [
        "askonce/b.py: not in the wheel",
        "askonce/mine.py: in the wheel, and not of the project",
        "tests/test_mine.py: stray in the source distribution",
        "README.md: not in the source distribution",
        "src/askonce/b.py: not in the source distribution",
    ]


def test_this_python_is_one_of_those_that_are_tried():
    found = dict(wheel.pythons())
    assert list(found) == [f"3.{minor}" for minor in wheel.MINORS]
    assert found.get(f"3.{sys.version_info[1]}") == sys.executable or not importlib.util.find_spec("ensurepip")


def test_the_pythons_that_are_tried_are_those_that_the_package_names_everywhere():
    tried = [f"3.{minor}" for minor in wheel.MINORS]
    about = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", one) for one in about["classifiers"]]
    assert [one[1] for one in named if one] == tried
    assert about["requires-python"] == f">={tried[0]}"
    assert f"with Python {tried[0]} to {tried[-1]}." in (ROOT / "README.md").read_text()
    assert f"for minor in {' '.join(map(str, wheel.MINORS))};" in (ROOT / "Makefile").read_text()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return wheel.build(tmp_path_factory.mktemp("dist"))


@pytest.mark.slow
def test_what_is_built_has_all_of_the_project_and_nothing_else_and_is_no_larger_than_it_may_be(built, project):
    assert wheel.differences(built, project) == []
    assert built.wheel.stat().st_size <= wheel.MOST


@pytest.mark.slow
def test_the_page_of_what_is_built_has_no_relative_link(built):
    shown = Shown(str(wheel.metadata(built.wheel).get_payload()))
    assert "askonce is a response cache" in shown.text
    assert shown.relative == []


@pytest.mark.slow
def test_what_is_built_has_each_licence_that_it_names_and_the_scripts_that_their_authors_published(built):
    with zipfile.ZipFile(built.wheel) as archive:
        licences = {name.partition("licenses/")[2] for name in archive.namelist() if "/licenses/" in name}
        assert licences == set(wheel.metadata(built.wheel).get_all("License-File", []))
        manifest = json.loads(archive.read(f"{VENDOR}/manifest.json"))
        for package in manifest:
            assert f"src/{VENDOR}/{package['licence_file']}" in licences
            for name, said in package["files"].items():
                assert hashlib.sha256(archive.read(f"{VENDOR}/{name}")).hexdigest() == said["sha256"]
    expression = wheel.metadata(built.wheel)["License-Expression"]
    assert {package["licence"] for package in manifest} <= set(expression.split(" AND "))


@pytest.mark.slow
def test_the_sizes_of_the_folders_are_those_of_the_wheel(built):
    found = sizes.files(built.wheel)
    assert sum(sizes.folders(found).values()) == pytest.approx(built.wheel.stat().st_size, rel=0.01)
    ways = sizes.otherwise(found)
    assert ways.pop("as it is") == pytest.approx(built.wheel.stat().st_size, rel=0.01)
    assert max(ways.values()) < built.wheel.stat().st_size


@pytest.mark.slow
def test_stripping_takes_comments_and_docstrings_and_leaves_the_code():
    source = b'"""Doc."""\nx = "kept"  # gone\ndef f():\n    """Doc."""\n    return x  # gone\n'
    of = {"askonce/a.py": source, "askonce/a.lua": b"-- kept"}
    bare, with_docstrings = sizes.stripped(of, docstrings=False), sizes.stripped(of, docstrings=True)
    assert b"Doc" in with_docstrings["askonce/a.py"]
    assert all(
        b"gone" not in one["askonce/a.py"] and one["askonce/a.lua"] == b"-- kept" for one in (bare, with_docstrings)
    )
    names = {}
    exec(bare["askonce/a.py"], names)
    assert b"Doc" not in bare["askonce/a.py"]
    assert names["f"]() == "kept"
