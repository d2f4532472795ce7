"""Who may ask the admin API: nobody without the token, and no page of another site."""

import itertools

import pytest

from askonce import AsyncCache
from askonce.errors import ConfigError
from askonce.gateway.admin.access import Access
from askonce.gateway.admin.operations import OPERATIONS
from tests.gateway.mounted import SHOWN, TOKEN, answered, api

PATHS = [one.path.replace("{key}", "00") for one in OPERATIONS] + ["/", "/openapi.json", "/none", ""]


@pytest.fixture
async def cache():
    async with AsyncCache("memory://") as cache:
        await answered(cache, 1, scope="support")
        yield cache


STRANGERS = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": TOKEN},
    {"authorization": "Bearer \x80\xff"},
    {"cookie": f"askonce_session={TOKEN}"},
    {"x-api-key": TOKEN},
]


@pytest.mark.parametrize("headers", STRANGERS)
async def test_without_the_token_every_path_is_refused_in_the_same_words(cache, headers):
    told = set()
    async with api(cache, {}) as client:
        for path, method in itertools.product(PATHS, ("GET", "POST", "HEAD", "DELETE", "OPTIONS")):
            raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
            answer = await client.request(method, path, headers=raw)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            told.add(answer.text)
    assert len(told - {""}) == 1  # a HEAD has no body
    assert "support" not in str(told)


async def test_a_token_in_the_address_is_no_token(cache):
    async with api(cache, {}) as client:
        assert (await client.get(f"/stats?token={TOKEN}")).status_code == 401


@pytest.mark.parametrize("word", ["Bearer", "bearer", "BEARER"])
async def test_the_token_is_taken_in_any_case_of_its_scheme(cache, word):
    async with api(cache, {"authorization": f"{word} {TOKEN}"}) as client:
        assert (await client.get("/stats")).status_code == 200


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://box.evil.example"},
    {"origin": "http://box:81"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "same-site", "origin": "http://box"},
]


@pytest.mark.parametrize("headers", FOREIGN)
async def test_a_page_of_another_site_is_refused_even_with_the_token(cache, headers):
    async with api(cache, {**SHOWN, **headers}) as client:
        answer = await client.post("/invalidate", json={"everything": True})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        assert (await client.get("/stats")).status_code == 403
    async with api(cache) as client:
        assert (await client.get("/stats")).json()["states"] == {"fresh": 1}


async def test_a_page_of_this_origin_and_a_program_are_not(cache):
    for headers in ({"origin": "http://box"}, {"sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}, {}):
        async with api(cache, {**SHOWN, **headers}) as client:
            assert (await client.get("/stats")).status_code == 200


async def test_a_browser_that_showed_the_token_to_the_page_may_read_and_nothing_else(cache):
    access = Access(TOKEN, session=lambda request: request.cookies.get("s") == "1")
    async with api(cache, {"cookie": "s=1"}, access) as client:
        assert (await client.get("/stats")).status_code == 200
        assert (await client.post("/invalidate", json={"everything": True})).status_code == 401
        assert (await client.get("/stats", headers={"sec-fetch-site": "cross-site"})).status_code == 403
        assert (await client.get("/stats", headers={"authorization": "Bearer wrong"})).status_code == 401


async def test_no_answer_may_be_kept_by_a_cache_or_framed(cache):
    async with api(cache) as client, api(cache, {}) as stranger:
        for answer in (await client.get("/stats"), await client.get("/none"), await stranger.get("/stats")):
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "token", ["", "short", "fifteen-chars..", "a" * 40, "with a space in it!", "pässwörter-sind-lang"]
)
def test_a_token_that_anybody_could_guess_is_refused_at_the_start(token):
    with pytest.raises(ConfigError, match=r"the admin API has (a|no) token") as refused:
        Access(token)
    assert len(token) < 2 or token not in str(refused.value)
