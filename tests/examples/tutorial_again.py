"""The tutorial in another process, when it is told to: see tests.siblings. Its environment comes in a line of JSON."""

from __future__ import annotations

import json
import os
import runpy
import sys

import openai  # noqa: F401 - imported once, by the interpreter that the processes are forked from

import askonce  # noqa: F401


def main() -> None:
    if told := sys.stdin.readline():
        os.environ.update(json.loads(told))
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")
