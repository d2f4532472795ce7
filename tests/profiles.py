"""How many cases of a property are tried: `make test` tries some, and `make slow` tries all of them.

pytest's ``--hypothesis-profile=many`` does what `make slow` does. A test that says nothing has as many cases as its
profile; one that needs more or fewer says so with `examples`.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

MANY = 100
BUSY = [HealthCheck.too_slow]  # a machine that does other things too is no fault of a property

settings.register_profile("some", max_examples=MANY // 5, deadline=None, suppress_health_check=BUSY)
settings.register_profile("many", max_examples=MANY, deadline=None, suppress_health_check=BUSY)
settings.load_profile("some")


def examples(many: int) -> int:
    """So many cases in the profile `many`, and in the others as many fewer as of every property."""
    return max(1, many * settings().max_examples // MANY)
