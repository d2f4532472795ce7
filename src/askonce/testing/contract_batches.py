"""The laws of several verbs at once: each does what it does alone, and together they cost about as much as one."""

# ruff: noqa: D102 - the name of a law is its sentence

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from askonce.core.keys import Key
from askonce.core.lease import Ask, Follow, Hit, Lead
from askonce.core.model import Sealed
from askonce.core.tape import FAILED, Ending
from askonce.store import Store, StoreTrouble
from askonce.testing.trial import HOUR, LIFE, Trial, asking, key, must_lead, sealed

MANY = 100
KEYS = [key(f"question {number}") for number in range(MANY)]
Work = Callable[[Store], Coroutine[Any, Any, Any]]


async def _claim(question: Key, ask: Ask, store: Store) -> Any:
    return await store.claim(question, ask)


async def _fill(question: Key, ask: Ask, order: int, answer: Sealed, store: Store) -> Any:
    return await store.fill(question, ask.id, order, answer, LIFE)


async def _look(question: Key, store: Store) -> Any:
    return await store.look(question, (1,))


async def _count(question: Key, hits: int, store: Store) -> Any:
    return await store.count(question, hits, HOUR)


async def _release(question: Key, flight: bytes, store: Store) -> Any:
    return await store.release(question, flight, 0, Ending(FAILED))


async def _troubled(_: Store) -> Any:
    raise StoreTrouble("store-error", "this one alone")


class BatchLaws(Trial):
    """`Store.together`."""

    def together(self, works: list[Work], *, reads: bool = False) -> list[Any]:
        return list(self.do(self.store.together(works, reads=reads)))

    def test_nothing_together_is_nothing(self) -> None:
        assert self.together([]) == []
        assert self.together([], reads=True) == []

    def test_what_is_claimed_filled_and_read_together_is_as_if_it_had_been_alone(self) -> None:
        asks = [asking(1) for _ in KEYS]
        said = self.together([partial(_claim, one, ask) for one, ask in zip(KEYS, asks, strict=True)])
        grants = [must_lead(one) for one in said]
        assert [grant.id for grant in grants] == [ask.id for ask in asks]
        answers = [
            sealed(one, grant, 1, body=b'"%d"' % at) for at, (one, grant) in enumerate(zip(KEYS, grants, strict=True))
        ]
        fills = [
            partial(_fill, one, ask, grant.order, answer)
            for one, ask, grant, answer in zip(KEYS, asks, grants, answers, strict=True)
        ]
        assert self.together(list(fills)) == ["stored"] * MANY
        looks = self.together([partial(_look, one) for one in KEYS], reads=True)
        assert [look.entry[-len(b'"%d"' % at) :] for at, look in enumerate(looks)] == [
            b'"%d"' % at for at in range(MANY)
        ]
        assert all(self.serves(one, 1) == grant[:2] for one, grant in zip(KEYS[:5], grants, strict=False))

    def test_each_has_the_result_of_its_own_place(self) -> None:
        self.stored(KEYS[0])
        mine = self.lead(KEYS[1], asking())
        works = [partial(_claim, one, asking()) for one in KEYS[:3]]
        said = self.together([*works, *[partial(_count, one, at) for at, one in enumerate(KEYS[:3])]])
        assert [type(one) for one in said[:3]] == [Hit, Follow, Lead]
        assert said[1][:2] == mine[:2]
        assert said[3:] == [0, 1, 2]

    def test_of_two_claims_of_one_key_together_one_leads_and_the_other_follows_it(self) -> None:
        first, second = self.together([partial(_claim, KEYS[0], asking()) for _ in range(2)])
        assert isinstance(second, Follow)
        assert second[:2] == must_lead(first)[:2]

    def test_the_trouble_of_one_is_its_own(self) -> None:
        asks = [asking(), asking()]
        works: list[Work] = [partial(_claim, KEYS[0], asks[0]), _troubled, partial(_claim, KEYS[1], asks[1])]
        first, trouble, last = self.together(works)
        assert isinstance(trouble, StoreTrouble)
        assert str(trouble) == "this one alone"
        must_lead(first)
        must_lead(last)
        looks: list[Work] = [partial(_look, KEYS[0]), _troubled]
        assert isinstance(self.together(looks, reads=True)[1], StoreTrouble)

    def test_what_was_given_back_together_may_be_claimed_by_others(self) -> None:
        grants = [self.lead(one, asking()) for one in KEYS[:10]]
        self.together([partial(_release, one, grant.id) for one, grant in zip(KEYS, grants, strict=False)])
        assert all(isinstance(self.claim(one, asking()), Lead) for one in KEYS[:10])

    def test_a_store_that_was_used_is_connected_and_connects_anew_when_it_is_told_to(self) -> None:
        self.stored(KEYS[0])
        assert self.do(self._connected())
        self.store.reconnect(self.store.primary(KEYS[0]))
        assert self.serves(KEYS[0]) is not None

    async def _connected(self) -> bool:
        return self.store.connected(KEYS[0])
