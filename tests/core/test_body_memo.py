"""What is remembered of requests by their bodies is never told of another body."""

from __future__ import annotations

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from askonce.core.body_memo import FEW, LARGEST, PROMOTED, SAMPLE, BodyMemo


def digest(body):
    return sha256(body).digest()


def found(memo, body):
    """The value of a body, as a cache looks for it."""
    value = memo.recent(body)
    return memo.again(digest(body), body) if value is None else value


# Few letters, and lengths around the sample's: many of these bodies have one sample.
bodies = st.builds(
    lambda text, repeats, end: (text * repeats + end).encode(),
    st.text("ab", max_size=4),
    st.sampled_from([0, 1, SAMPLE - 1, SAMPLE, SAMPLE + 1, 3 * SAMPLE]),
    st.text("ab", max_size=3),
)


@given(st.lists(bodies, max_size=40), st.lists(bodies, max_size=40))
def test_a_body_has_its_own_value_or_none_whatever_was_kept(kept, asked):
    memo = BodyMemo()
    for body in kept:
        memo.keep(digest(body), body, body)
    for body in [*asked, *kept, *kept]:
        assert found(memo, body) == (body if body in kept else None)


def test_bodies_that_differ_between_two_sampled_bytes_are_told_apart():
    memo = BodyMemo()
    ones = [b"x" * 5 + b"%04d" % number + b"x" * 500 for number in range(100)]
    assert len({one[::SAMPLE] for one in ones}) == 1
    for one in ones:
        memo.keep(digest(one), one, one)
    assert [found(memo, one) for one in ones] == ones
    assert [memo.recent(one) for one in ones].count(None) == len(ones) - 1


def test_a_body_that_is_asked_often_is_soon_found_without_its_digest():
    memo = BodyMemo()
    for number in range(2 * FEW):
        body = 8 * digest(b"%d" % number)
        memo.keep(digest(body), body, number)
    assert memo.recent(body) is None
    for _ in range(PROMOTED):
        assert memo.again(digest(body), body) == number
    assert memo.recent(body) == number


def test_a_long_body_is_kept_by_its_digest_alone():
    memo = BodyMemo()
    body = b"x" * (LARGEST + 1)
    memo.keep(digest(body), body, 1)
    assert memo.recent(body) is None
    assert [memo.again(digest(body), body) for _ in range(2 * PROMOTED)] == [1] * 2 * PROMOTED
    assert memo.recent(body) is None


def test_a_body_is_kept_and_not_the_buffer_that_it_was_written_in():
    memo, buffer = BodyMemo(), bytearray(b"x" * 100)
    memo.keep(b"digest", bytes(buffer), 1)
    buffer[:] = b"y" * 100
    assert memo.recent(b"x" * 100) == 1
