"""What a worker of xdist reports of a test: what went wrong, and that its call passed.

pytest makes three reports of each test, and a worker sends them as they are made. That a set-up and a teardown passed
is nothing that the controller prints; to pack, send and read both takes 0.4 ms of processor time.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test as pytest does, and hand on what there is to say."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
