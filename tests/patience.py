"""Patience with a store that others use too, where a test asks who pays, and not what a slow store costs a lookup."""

from __future__ import annotations

from askonce.store.sqlite import file

PATIENT = 5.0  # s


def with_files() -> None:
    """From now on, this process waits longer for an SQLite file: a busy machine may hold its lock for long."""
    vars(file).update(TIMEOUT=PATIENT, QUEUE=PATIENT)
