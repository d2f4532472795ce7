"""Adding an API takes one file and one line of the table: tested with an invented one, in a copy of the package."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import askonce

HERE = Path(__file__).parent
SOURCE = Path(askonce.__file__).parent
FOLDER = Path("core") / "providers"

TRIAL = """
import json, sys
import httpx2
from askonce import Cache
from askonce.core.judge import judge_answer
from askonce.core.policy import resolve
from askonce.core.providers import APIS, by_answer
from askonce.core.providers.items import ItemScan

URL = "https://poems.example/haiku/v1/verses"
WHOLE = {"verses": ["old pond"], "over": "fin", "spent": {"in": 3, "out": 5}}
EVENTS = [{"verse": "old pond"}, {"over": "fin", "spent": {"in": 3, "out": 5}}]
told = []

def upstream(request):
    asked = json.loads(request.content)
    told.append(asked)
    over = "torn" if asked["theme"] == "storm" else "fin"
    if not asked.get("stream"):
        return httpx2.Response(200, json={**WHOLE, "over": over})
    said = EVENTS[:1] if asked["theme"] == "fog" else [EVENTS[0], {**EVENTS[1], "over": over}]
    body = "".join(f"data: {json.dumps(one)}\\n\\n" for one in said)
    return httpx2.Response(200, text=body, headers={"content-type": "text/event-stream"})

def asked(client, theme, stream=False, **more):
    before = len(told)
    response = client.post(URL, json={"theme": theme, "stream": stream, **more})
    return response.text, len(told) - before

def items(*said):
    scan = ItemScan()
    for one in said:
        scan.feed(json.dumps(one).encode())
    return [scan.verdict(), scan.usage()]

with Cache("memory://") as cache:
    with cache.http_client(inner=httpx2.MockTransport(upstream)) as client:
        found = {
            "judged": [asked(client, "rain")[1], asked(client, "rain")[1], asked(client, "storm")[1], asked(client, "storm")[1]],
            "left out": asked(client, "rain", poet="b")[1],
            "counts": asked(client, "rain", metre="free")[1],
            "streamed": [asked(client, "snow", True), asked(client, "snow", True)],
            "streams cut": [asked(client, theme, True)[1] for theme in ("fog", "fog", "storm", "storm")],
        }
    with cache.http_client(inner=httpx2.MockTransport(upstream), share_forms=True) as client:
        found["assembled"] = asked(client, "snow")
        found["told"] = asked(client, "rain", True)
found["values"] = [judge_answer(one, resolve()) for one in (WHOLE, {**WHOLE, "over": "torn"}, {**WHOLE, "verses": []})]
found["items"] = [items(*EVENTS), items(EVENTS[0]), items(*EVENTS[:1], {"over": "torn", "spent": {"in": 1, "out": 1}})]
found["counted"] = by_answer(WHOLE).usage(WHOLE)
found["apis"] = len(APIS)
json.dump(found, sys.stdout)
"""


def files(root: Path) -> dict[Path, str]:
    return {path.relative_to(root): path.read_text("utf-8") for path in root.rglob("*.py")}


@pytest.fixture(scope="module")
def touched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[Path]]:
    """A copy of the package with the API added, and the files that this touched."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(SOURCE, root / "askonce", ignore=shutil.ignore_patterns("__pycache__"))
    folder = root / "askonce" / FOLDER
    shutil.copy(HERE / "toy_api.py", folder / "haiku.py")
    table = (folder / "__init__.py").read_text("utf-8")
    row = "APIS = (\n    *(haiku.API,),\n"
    imported = "from askonce.core.providers import (\n    haiku,\n"
    table = table.replace("APIS = (\n", row).replace("from askonce.core.providers import (\n", imported)
    (folder / "__init__.py").write_text(table, "utf-8")
    before, after = files(SOURCE), files(root / "askonce")
    return root, {path for path in after if before.get(path) != after[path]}


@pytest.fixture(scope="module")
def found(touched) -> dict[str, Any]:
    """What becomes of the API's requests, answers and streams."""
    made = subprocess.run(
        [sys.executable, "-c", TRIAL],
        env={**os.environ, "PYTHONPATH": str(touched[0])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    told: dict[str, Any] = json.loads(made.stdout)
    return told


def test_one_file_and_the_table_are_touched(touched):
    assert touched[1] == {FOLDER / "__init__.py", FOLDER / "haiku.py"}


def test_its_answers_are_judged(found):
    assert found["judged"] == [1, 0, 1, 1]
    assert found["values"] == ["", "truncated", "empty"]


def test_a_field_that_cannot_change_an_answer_is_left_out_of_the_key_and_others_count(found):
    assert (found["left out"], found["counts"]) == (0, 1)


def test_its_streams_are_kept_and_said_again_unless_they_are_cut(found):
    (first, paid), (again, free) = found["streamed"]
    assert (again, paid, free) == (first, 1, 0)
    assert found["streams cut"] == [1, 1, 1, 1]
    assert [verdict for verdict, _ in found["items"]] == ["", "incomplete", "truncated"]


def test_each_form_is_made_of_the_other(found):
    whole, paid = found["assembled"]
    assert (json.loads(whole), paid) == ({"verses": ["old pond"], "over": "fin", "spent": {"in": 3, "out": 5}}, 0)
    stream, paid = found["told"]
    events = [json.loads(line[6:]) for line in stream.splitlines() if line]
    assert (events, paid) == ([{"verse": "old pond"}, {"over": "fin", "spent": {"in": 3, "out": 5}}], 0)


def test_its_tokens_are_counted(found):
    assert found["counted"] == [3, 5]
    assert [usage for _, usage in found["items"]] == [[3, 5], None, [1, 1]]
