"""A pytest plugin that writes how each test ended, and whether it sent by a client, to $SUITE_REPORT as JSON lines."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

_report: list[TextIO] = []
_sent: list[str] = []  # by this test


def modules() -> Iterator[Any]:
    """httpx2 and httpx, as far as installed; an alias does not count twice."""
    for name in ("httpx2", "httpx"):
        with contextlib.suppress(ImportError):
            module = importlib.import_module(name)
            if module.__name__ == name:
                yield module


def _note(kind: Any) -> None:
    send = kind._send_single_request

    def sent(self: Any, request: Any) -> Any:
        _sent.append(request.method)
        return send(self, request)

    kind._send_single_request = sent


def pytest_configure(config: Any) -> None:
    _report.append(open(os.environ["SUITE_REPORT"], "w", encoding="utf-8"))  # noqa: PTH123, SIM115 - closed at the end
    for module in modules():
        _note(module.Client)
        _note(module.AsyncClient)


def pytest_unconfigure(config: Any) -> None:
    while _report:
        _report.pop().close()


def pytest_runtest_logstart(nodeid: str) -> None:
    _sent.clear()


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        _write(report.nodeid, "error", str(report.longrepr))


def pytest_runtest_logreport(report: Any) -> None:
    outcome = report.outcome
    if hasattr(report, "wasxfail"):
        outcome = "xfailed" if report.skipped else "xpassed"
    elif report.failed and report.when != "call":
        outcome = "error"
    if report.when == "call" or outcome != "passed":
        _write(report.nodeid, outcome, report.longreprtext if outcome in {"failed", "error"} else "")
    elif report.when == "teardown" and _sent:
        _write(report.nodeid, "passed", "")


def _write(test: str, outcome: str, text: str) -> None:
    said = [line.strip() for line in text.splitlines() if line.startswith("E  ")][:2]
    wrap = sys.modules.get("suite_wrap")
    lookups = list(wrap.seen) if wrap else []
    line = {"test": test, "outcome": outcome, "text": said, "lookups": lookups, "sends": bool(_sent)}
    print(json.dumps(line), file=_report[0], flush=True)
