"""The background thread looks at leases in time, and is woken for a new one only if it would not."""

from __future__ import annotations

import time

import pytest

from askonce import Cache
from askonce.flight.heartbeats import LINGERS, Heartbeats

pytestmark = pytest.mark.waits


class Beat:
    order = 1


def test_a_thread_that_looks_before_a_lease_is_due_need_not_be_woken():
    beats = Heartbeats()
    beats.next = time.monotonic() + 1.5
    beats.add(Beat())
    assert beats.watch(60.0, 1.5, waited_for=False) <= 1.5
    assert beats.watched


def test_a_lease_that_is_added_while_the_thread_works_out_its_sleep_wakes_it():
    beats = Heartbeats()
    beats.watch(60.0, 1.5, waited_for=False)
    beats.unwatched()
    beats.next = time.monotonic() + 1.5
    beats.add(Beat())
    assert not beats.watched


def test_after_its_last_lease_a_thread_looks_for_a_while_and_then_sleeps_as_long_as_it_likes():
    beats = Heartbeats()
    beats.next = time.monotonic()
    assert beats.watch(60.0, 1.5, waited_for=False) == 1.5
    beats.next = time.monotonic() - LINGERS
    assert beats.watch(60.0, 1.5, waited_for=False) == 60.0
    beats.next = time.monotonic() + 1.5
    assert not beats.watched


def test_one_call_after_another_wakes_the_thread_once(monkeypatch):
    with Cache("memory://") as cache:
        background = cache._base.engine().background
        wakes = []
        plain = background.wake
        monkeypatch.setattr(background, "wake", lambda: wakes.append(1) or plain())
        cache.fetch({"q": 0}, lambda: 1)
        until = time.monotonic() + 60
        while not background._heartbeats.watched and time.monotonic() < until:
            time.sleep(0.01)
            background._heartbeats.next = time.monotonic() + background.rhythm
        first = len(wakes)
        assert first
        for number in range(1, 50):
            cache.fetch({"q": number}, lambda: 1)
        assert len(wakes) == first


def test_a_lease_that_woke_nobody_is_renewed_while_its_call_runs(monkeypatch):
    with Cache("memory://") as cache:
        background = cache._base.engine().background
        monkeypatch.setattr(background, "rhythm", 0.05)
        cache.fetch({"q": 0}, lambda: 1)
        renewed = []
        plain = background._heartbeats.renew
        monkeypatch.setattr(
            background._heartbeats, "renew", lambda *of: renewed.append(len(background._heartbeats)) or plain(*of)
        )

        def call():
            until = time.monotonic() + 60
            while not any(renewed) and time.monotonic() < until:
                time.sleep(0.01)
            return 1

        cache.fetch({"q": 1}, call)
        assert any(renewed)
