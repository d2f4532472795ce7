from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import askonce
from tests.siblings import Sibling, siblings

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not hasattr(askonce, "get_or_set"), reason="the package has no face yet (src/askonce/__init__.py)"
)


TUTORIAL = [str(ROOT / "examples" / "tutorial.py"), "Why?"]


@pytest.fixture(scope="module")
def others():
    """Processes that run the tutorial, one after the other, each with everything imported."""
    with siblings("tests.examples.tutorial_again", [TUTORIAL] * 3) as made:
        yield iter(made)


def environment(provider, url: str) -> dict[str, str]:
    return {"OPENAI_BASE_URL": provider.openai_url, "OPENAI_API_KEY": "any", "ASKONCE_URL": url}


def texts(said: str) -> list[str]:
    return [line.partition(" ms  ")[2] for line in said.splitlines()]


def run_script(provider, url: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *TUTORIAL],
        env=os.environ | environment(provider, url),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return texts(done.stdout)


def run_again(other: Sibling, provider, url: str) -> list[str]:
    other.stdin.write(json.dumps(environment(provider, url)) + "\n")
    other.stdin.flush()
    said = other.stdout.read()
    assert other.wait() == 0
    return texts(said)


def test_the_tutorial_pays_once_a_prefix_and_never_again(provider, tmp_path, others):
    url = f"sqlite:///{tmp_path}/answers.db"
    first = run_script(provider, url)
    assert provider.paid("Why?") == 2  # once for v3, once for v4
    assert len(first) == 3
    assert len(set(first)) == 1  # the scripted text depends on the question alone
    assert run_again(next(others), provider, url) == first
    assert provider.paid("Why?") == 2


@pytest.mark.servers
def test_the_tutorial_does_the_same_on_valkey_by_another_url(provider, valkey, others):
    first = run_again(next(others), provider, valkey.url)
    assert len(first) == 3
    assert run_again(next(others), provider, valkey.url) == first
    assert provider.paid("Why?") == 2
