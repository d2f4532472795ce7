"""At the end of an interpreter, names of modules may be gone before the last objects: finalisers stay silent then.

An embedded interpreter (uWSGI) collects more at its end than Python's own program does.
"""

from __future__ import annotations

import ast
import builtins
import subprocess
import sys
from pathlib import Path

import pytest

import askonce

pytestmark = pytest.mark.waits

SOURCE = Path(askonce.__file__).parent
FINALISERS = [
    pytest.param(node, id=f"{path.relative_to(SOURCE).as_posix()}:{node.lineno}")
    for path in sorted(SOURCE.rglob("*.py"))
    if "__del__" in (text := path.read_text("utf-8"))  # each worker reads all, and parses a few
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.FunctionDef) and node.name == "__del__"
]


@pytest.mark.parametrize("finaliser", FINALISERS)
def test_a_finaliser_uses_no_name_of_its_module(finaliser):
    given = {argument.arg for argument in finaliser.args.args}
    names = [node for line in finaliser.body for node in ast.walk(line) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    assert {node.id for node in names} - given - made - {*dir(builtins)} == set()


ENDS = """
import gc, logging, sys, threading
from askonce import AsyncCache, Cache

cache = Cache(sys.argv[1])
cache.fetch("q", lambda: 1)
stream = cache.fetch_stream("s", lambda: iter("abc"))
next(stream)
connections = list(cache._base.engine().store._file.idle)
stream._playback._defer = lambda work: None  # nobody is there to do it

def end(gone):
    gc.disable()
    for name, module in list(gone.items()):
        if name.startswith("askonce"):
            for one in list(vars(module)):
                if not one.startswith("__"):
                    vars(module)[one] = None  # as the interpreter does

threading.excepthook = lambda _: None  # daemon threads run no more by then, so here they say nothing
logging.disable()
end(sys.modules)
for connection in connections:
    connection.__del__()
playback = stream._playback
playback.__del__()
print("ended", flush=True)
import os
os._exit(0)
"""


def test_what_is_left_when_the_names_of_modules_are_gone_says_nothing(tmp_path):
    command = [sys.executable, "-c", ENDS, f"sqlite:///{tmp_path}/answers.db"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")
