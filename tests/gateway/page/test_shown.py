"""What pages show: numbers as people read them, texts of others as texts, and nothing where nothing is known."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce import AsyncCache
from askonce.core.savings import Activity
from askonce.core.spent import Balance, Spent
from askonce.core.why import meaning
from askonce.errors import StoreUnavailable
from askonce.gateway.page.entries import LONGEST, shown
from askonce.gateway.page.headers import HEADERS
from askonce.gateway.results import Answer, Flight
from askonce.store import StoreTrouble
from tests.gateway.page.conftest import looking, mark_of, store
from tests.gateway.page.sights import NOW, Told, busy, hour, key, latency, miss

WAYS_IN = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='x",
    "{{ 7*7 }}",
    "</pre></main>",
    "<!--",
)
UNSEEN = "\x00\x07\x1b[31m\x7f\x9b\u202e\u2066\ufeff\u200b"
ANSWER = Answer("ab" * 32, "v", "", "", (), 0.0, 0.0, 0.0, 0.0, 0.0, 0, live=True)
# Hypothesis also tries the constants of the code: a word of our own is shown with its meaning.
texts = st.one_of(
    st.sampled_from([*WAYS_IN, UNSEEN]), st.text(min_size=1, max_size=40).filter(lambda word: not meaning(word))
)


class Page(HTMLParser):
    """The elements of a page with the names of their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, tuple(sorted(name for name, _ in attrs))))
        self.values += [value for _, value in attrs if value]

    def handle_data(self, data):
        self.text += data + " "

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def everywhere(word: str) -> Told:
    """A view that tells one word in every place where a store or a request may put it."""
    told = busy()
    told.flights = [replace(one, model=word, scope=word) for one in told.flights]
    told.activity = Activity(told.activity.hours, {word: 3}, {word: 4}, [(key(9), 3)])
    told.misses = [miss(NOW, 8, word, word, word, word)]
    return told


async def test_the_overview_answers_its_questions_in_words_and_numbers(browse):
    words = Page((await browse.get("")).text).words
    for told in (
        "Saved today $12.84 calls not made 3,214 waiting 2 h 14 min tokens 2,721,000",
        "12 of these calls have no known price and are not in the sum.",
        "Saved this month $391.21 calls not made 88,120 waiting 3 d 4 h",
        "Latency 0.5 ms instead of 2.0 s",
        "Hit ratio 66 %",
        "claude-sonnet-4-9 support/triage 41 s 25 this one, 3 others wait",
        "1,204",
        "the request offers tools tools passed 412",
        "it was cut at a limit truncated not stored 19",
        "it looks like a timestamp or an id",
    ):
        assert told in words


@given(texts)
@settings(max_examples=15, deadline=None)
async def test_a_text_of_others_adds_no_element_and_hides_nothing(word):
    async with looking(everywhere("plain")) as plain, looking(everywhere(word)) as hostile:
        one, other = [Page((await client.get("")).text) for client in (plain, hostile)]
    assert one.tags == other.tags
    assert all(char.isprintable() or char in "\n\t\u00a0\u200c\u200d" for char in other.text)


async def test_the_policy_of_every_answer_allows_nothing_inline(browse, stranger):
    for path in ("", "entries", "nothing", "login", "part/lists", "invalidate?by=key&value=zz", "static/x/page.css"):
        answer = await browse.get(path)
        assert HEADERS.items() <= dict(answer.headers).items()
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "default-src 'none'" in policy
        page = Page(answer.text)
        assert not [names for _, names in page.tags if any(name == "style" or name.startswith("on") for name in names)]
        assert ("script", ()) not in page.tags
        assert not [tag for tag, _ in page.tags if tag == "style"]
        if not path.startswith("static"):
            assert answer.headers["cache-control"] == "no-store, no-transform"


async def test_a_page_names_no_other_host(browse):
    for path in ("", "entries", "invalidate", "login"):
        values = Page((await browse.get(path)).text).values
        assert not [value for value in values if value.startswith(("http:", "https:", "//"))]


async def test_an_empty_store_says_which_line_to_change():
    async with looking(Told()) as browse:
        page = Page((await browse.get("")).text)
    assert "Nothing was asked yet" in page.words
    assert "export OPENAI_BASE_URL=http://page/openai/v1" in page.words
    assert "$0" not in page.words
    assert "0 %" not in page.words


async def test_nothing_known_of_savings_is_no_zero():
    async with looking(replace(busy(), today=Balance(), month=Balance())) as browse:
        words = Page((await browse.get("")).text).words
    assert "Saved" not in words
    assert "Hit ratio 66 %" in words


SPENT = Spent(calls=10, tokens_in=100, nanodollars=0, ms=4_000, unpriced=10)


async def test_calls_without_any_price_are_counted_and_not_valued():
    async with looking(replace(busy(), today=Balance(hits=SPENT))) as browse:
        words = Page((await browse.get("")).text).words
    assert "Saved today 10 calls waiting 4 s tokens 100 10 of these calls have no known price." in words


async def test_a_cache_that_cost_more_than_it_saved_says_so():
    dear = Balance(refreshes=Spent(2, 10, 10, 0, 40_000_000, 900))
    async with looking(replace(busy(), today=dear)) as browse:
        words = Page((await browse.get("")).text).words
    assert "Saved today \u2212$0.040 calls not made \u22122" in words


async def test_one_kind_of_latency_alone_is_not_compared():
    hours = (replace(hour(NOW, 9, 9), hits=latency(0.5, 2.0)),)
    async with looking(replace(busy(), activity=Activity(hours))) as browse:
        words = Page((await browse.get("")).text).words
    assert "Latency 0.5 ms a call" in words
    assert "instead" not in words


async def test_hours_without_lookups_have_no_ratio():
    began = NOW - NOW % 3600
    activity = Activity((hour(began - 90_000, 7, 7), hour(began - 7_200, 6, 3), hour(began, 4, 1)))
    async with looking(replace(busy(), activity=activity)) as browse:
        page = Page((await browse.get("")).text)
    (chart,) = [json.loads(value) for value in page.values if value.startswith('{"at"')]
    assert (len(chart["at"]), chart["ratio"][-4:], chart["lookups"][-1]) == (24, [None, 0.5, None, 0.25], 4)
    assert "10 lookups in 24 hours" in page.words, "a day is shown, not all that is known"
    assert "Hit ratio 40 %" in page.words


@pytest.mark.parametrize("trouble", [StoreTrouble("store-timeout"), StoreUnavailable("away", "store-timeout")])
async def test_half_a_page_is_shown_while_the_store_is_away(cache, trouble):
    async with looking(replace(busy(), trouble=trouble), cache) as browse:
        answer = await browse.get("")
    assert answer.status_code == 200
    words = Page(answer.text).words
    assert "The store does not answer (store-timeout)" in words
    assert "Nothing was asked yet" not in words


async def test_more_calls_than_a_page_shows_are_counted():
    flights = [Flight(key(n)[:32], "j", NOW, 1.0, NOW, True, 0, False, None) for n in range(33)]
    async with looking(replace(busy(), flights=flights)) as browse:
        assert "and 3 other calls" in Page((await browse.get("")).text).words


# answers


async def test_a_search_finds_by_scope_tag_model_and_the_beginning_of_a_key(browse, cache):
    one = await store(cache, "a", 1, scope="support/triage", tags=["doc:1"])
    other = await store(cache, "b", 2, scope="evals", tags=["doc:2"])
    for query, found in (
        ("", {one, other}),
        ("scope=support", {one}),
        ("scope=supp", set()),
        ("tag=doc:2", {other}),
        ("model=gpt-5", {one, other}),
        ("model=none", set()),
        (f"key={one[:9].upper()}", {one}),
        (f"key={one}", {one}),
        (f"key={'z' * 64}", set()),
    ):
        page = (await browse.get(f"entries?{query}")).text
        assert {key for key in (one, other) if key in page} == found, query


async def test_an_answer_is_shown_only_if_it_is_asked_for(browse, cache):
    key = await store(cache, "the words of an answer", scope="support", tags=["doc:1"])
    closed, opened = [(await browse.get(f"entries/{key[:10]}{more}")).text for more in ("", "?body=1")]
    assert "the words of an answer" not in closed
    assert "the words of an answer" in opened
    for told in (key, "support", "doc:1", "gpt-5", "fresh until"):
        assert told in Page(closed).text


@given(texts.filter(str.strip), st.sampled_from(WAYS_IN))  # an answer without words is not stored
@settings(max_examples=15, deadline=None)
async def test_an_answer_and_its_labels_are_shown_as_text(answer, tag):
    async with AsyncCache("memory://") as cache, looking(Told(), cache) as browse:
        plain, hostile = await store(cache, "plain", 1, tags=["plain"]), await store(cache, answer, 2, tags=[tag])
        one, other = [Page((await browse.get(f"entries/{key}?body=1")).text) for key in (plain, hostile)]
    assert one.tags == other.tags
    assert all(char.isprintable() or char in "\n\t\u00a0\u200c\u200d" for char in other.text)


def deep(value: object, levels: int) -> object:
    return deep([value], levels - 1) if levels else value


@pytest.mark.parametrize(
    "body", [[1] * 100_000, deep([1] * 50_000, 140), {"a" * 300_000: 1}, [{"é": None}], 7, [], "a"]
)
def test_of_a_long_answer_only_the_beginning_is_written_however_deep_it_is(body):
    said = shown(replace(ANSWER, body=body))
    whole = body if isinstance(body, str) else json.dumps(body, indent=2, ensure_ascii=False)
    assert whole.startswith(said)
    assert len(said) == len(whole) or LONGEST < len(said) < LONGEST + 300_010
    assert len(said) < 2 * LONGEST or "a" * 300_000 in said


@pytest.mark.parametrize(
    "path", ["entries/zz", "entries/ab12", "entries/" + "a" * 64, "entries/%00", "nothing", "part/secrets"]
)
async def test_what_is_not_there_is_said_in_a_page(browse, path):
    answer = await browse.get(path)
    assert answer.status_code in {400, 404}
    assert "<h1>" in answer.text


async def test_an_invalidation_counts_first_and_is_done_after_that(browse, cache):
    gone = await store(cache, "a", 1, scope="support/triage")
    kept = await store(cache, "b", 2, scope="evals")
    asked = (await browse.get("invalidate?by=scope&value=support")).text
    assert "Invalidate 1 answer" in Page(asked).words
    done = await browse.post("invalidate", data={"by": "scope", "value": "support", "csrf": mark_of(asked)})
    assert "Invalidated: scope support." in Page(done.text).words
    assert {one.key: one.live async for one in cache.entries()} == {gone: False, kept: True}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("by=scope&value=", "name a scope"),
        ("by=key&value=zz", "is not a key"),
        ("by=key&value=ab12", "no key begins with ab12"),
        ("by=colour&value=red", "say what to invalidate"),
        ("by=scope&value=/", "scope"),
    ],
)
async def test_a_wrong_aim_is_explained_and_reaches_nothing(browse, query, said):
    answer = await browse.get(f"invalidate?{query}")
    assert answer.status_code == 400
    assert said in Page(answer.text).words
    assert "Cancel" not in answer.text


async def test_of_many_reasons_the_frequent_ones_have_a_row_and_the_rest_is_one():
    counted = {f"field-f{n}": n for n in range(1, 13)}
    async with looking(replace(busy(), activity=Activity((), counted))) as browse:
        words = Page((await browse.get("")).text).words
    assert "the field f12 may depend on the world: if not, write inert= field-f12 passed 12" in words
    assert "4 other reasons passed 10" in words
