"""Programs that must and must not type-check, by mypy and pyright, both strict: each mistake is found in its line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).parent / "programs"
PASS, FAIL = PROGRAMS / "must_pass.py", PROGRAMS / "must_fail.py"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("registries")]


def marked(program):
    return {at for at, line in enumerate(program.read_text("utf-8").splitlines(), 1) if line.endswith("# error")}


def mypy(program, folder):
    options = ["--strict", "--no-error-summary", "--no-incremental", "--enable-error-code=unused-awaitable"]
    environment = os.environ | {"MYPY_CACHE_DIR": str(folder)}
    (folder / "mypy.ini").write_text("[mypy]\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", str(folder / "mypy.ini"), *options, str(program)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return {int(found[1]) for found in re.finditer(rf"{program.name}:(\d+): error", done.stdout)}, done.stdout


def pyright(program, folder):
    shutil.copy(program, folder)  # it looks at what is below its configuration alone
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict"}))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(folder)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        told = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError:
        pytest.skip(f"pyright cannot be started here (it comes from the npm registry): {done.stderr[-200:]}")
    assert told["summary"]["filesAnalyzed"] == 1
    errors = [
        one
        for one in told["generalDiagnostics"]
        if one["severity"] == "error" and Path(one["file"]).name == program.name
    ]
    return {one["range"]["start"]["line"] + 1 for one in errors}, json.dumps(errors, indent=1)


CHECKERS = [
    mypy,
    pytest.param(pyright, marks=pytest.mark.skipif(shutil.which("node") is None, reason="pyright needs Node.js")),
]


@pytest.mark.parametrize("check", CHECKERS)
def test_what_users_write_type_checks(check, tmp_path):
    found, said = check(PASS, tmp_path)
    assert not found, said


@pytest.mark.parametrize("check", CHECKERS)
def test_every_mistake_is_an_error_in_its_line(check, tmp_path):
    found, said = check(FAIL, tmp_path)
    assert found == marked(FAIL), said
    assert len(found) > 30
