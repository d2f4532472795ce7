"""What is believed for a while is believed no longer because the machine was suspended meanwhile."""

from __future__ import annotations

import importlib
import sys
import time

import pytest

from askonce.gateway import gateway_rules
from askonce.runtime import boot_clock
from askonce.store.redis import near


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the clock has another name")
def test_the_clock_counts_the_time_in_which_the_machine_was_suspended(monkeypatch):
    asleep, awake = 8 * 3600.0, time.clock_gettime
    monkeypatch.setattr(time, "clock_gettime", lambda one: awake(one) + asleep * (one == time.CLOCK_BOOTTIME))
    again = importlib.util.module_from_spec(boot_clock.__spec__)  # as if it were imported now
    boot_clock.__spec__.loader.exec_module(again)
    assert again.boot_clock() - time.monotonic() > asleep - 1


@pytest.mark.parametrize("clock", [near.clock, vars(gateway_rules)["boot_clock"]], ids=["a proof", "a credential"])
def test_it_is_the_clock_of_what_is_believed_for_a_while(clock):
    assert clock is boot_clock.boot_clock
