"""What a worker reports: whatever did not pass, whenever, and the calls that did."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import pytest

from tests import reports

PHASES = ("setup", "call", "teardown")


@pytest.mark.parametrize("outcome", ["failed", "skipped"])
@pytest.mark.parametrize("phase", PHASES)
def test_whatever_did_not_pass_is_reported_and_of_the_rest_the_call(phase, outcome, monkeypatch):
    made = [
        SimpleNamespace(when=when, outcome=(found := outcome if when == phase else "passed"), passed=found == "passed")
        for when in PHASES
    ]
    monkeypatch.setattr(reports, "runtestprotocol", lambda *_, **__: made)
    item = mock.Mock()
    assert reports.pytest_runtest_protocol(item, None)
    sent = [call.kwargs["report"] for call in item.ihook.pytest_runtest_logreport.call_args_list]
    assert sent == [one for one in made if one.when == "call" or one.outcome == outcome]
