from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import askonce

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    not hasattr(askonce, "get_or_set"), reason="the package has no face yet (src/askonce/__init__.py)"
)


def run_tutorial(provider, url: str) -> list[str]:
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_KEY": "any",
        "ASKONCE_URL": url,
    }
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "tutorial.py", "Why?"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [line.partition(" ms  ")[2] for line in done.stdout.splitlines()]


def test_the_tutorial_pays_once_a_prefix_and_never_again(provider, tmp_path):
    url = f"sqlite:///{tmp_path}/answers.db"
    first = run_tutorial(provider, url)
    assert provider.paid("Why?") == 2  # once for v3, once for v4
    assert len(first) == 3
    assert len(set(first)) == 1  # the scripted text depends on the question alone
    assert run_tutorial(provider, url) == first
    assert provider.paid("Why?") == 2


@pytest.mark.servers
def test_the_tutorial_does_the_same_on_valkey_by_another_url(provider, valkey):
    run_tutorial(provider, valkey.url)
    run_tutorial(provider, valkey.url)
    assert provider.paid("Why?") == 2
