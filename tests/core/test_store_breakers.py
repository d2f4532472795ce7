"""The breakers of a store with several primaries: trouble of one is left alone for its keys only."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from askonce.core.breaker import Breakers, Direction, StoreBreakers

DIRECTIONS: list[Direction] = ["read", "write", "connect"]
PRIMARIES = ["", "redis://a:1/0", "redis://b:2/0"]
steps = st.lists(
    st.tuples(
        st.sampled_from(["failed", "connecting", "worked", "closed"]),
        st.sampled_from(PRIMARIES),
        st.sampled_from(DIRECTIONS),
        st.sampled_from(["store-timeout", "store-denied", "store-full"]),
    ),
    max_size=30,
)


@given(steps)
def test_each_primary_has_the_breakers_that_it_would_have_alone(steps: list[tuple[str, str, Direction, str]]) -> None:
    shared, alone = StoreBreakers(), {name: Breakers() for name in PRIMARIES}
    for what, primary, direction, kind in steps:
        if what == "worked":
            shared.worked(primary, direction)
            alone[primary].of(direction).worked()
        elif what == "closed":
            shared.close(primary, shared.of(primary).of(direction))
            alone[primary].close(alone[primary].of(direction))
        else:
            opened = shared.failed(primary, direction, kind, connecting=what == "connecting")
            expected = alone[primary].failed(direction, kind, connecting=what == "connecting")
            assert [one.direction for one in opened] == [one.direction for one in expected]
        assert {name: shared.of(name).kinds() for name in PRIMARIES} == {n: one.kinds() for n, one in alone.items()}
        assert shared.shut is any(one.shut for one in alone.values())
        assert set(shared.troubled()) == {name for name, one in alone.items() if one.shut}
        assert shared.open_at(primary, direction) is alone[primary].of(direction).open
        if any(breaker.failing for one in alone.values() for breaker in one.all()):
            assert shared.failing, "a success would not be told, and two failures with one between count as a row"
