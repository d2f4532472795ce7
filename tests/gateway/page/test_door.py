"""Only who has shown the token sees a page, and only a page of ours may change something."""

from __future__ import annotations

import re

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from askonce.gateway.page import page_app
from askonce.gateway.page.app import alone, within
from askonce.gateway.page.session import Sessions
from tests.gateway.page.conftest import BASE, TOKEN, mark_of, store
from tests.gateway.page.sights import NOW, Told, ToldView
from tests.profiles import examples

PAGES = ["", "entries", "entries/ab12", "invalidate", "part/figures", "part/flights", "part/lists", "live", "nothing"]


@pytest.mark.parametrize("path", PAGES)
async def test_a_stranger_is_shown_the_login_and_nothing_else(stranger, path, told):
    answer = await stranger.get(path)
    assert answer.status_code in {303, 404}
    assert "12.84" not in answer.text
    assert told.activity.hottest[0][0][:12] not in answer.text
    assert "llm:v3" not in answer.text, "the place of the store is nobody else's business"


async def test_every_route_but_login_and_static_files_asks_for_a_session(app, stranger):
    (mount,) = [route for route in app.routes if route.path == "/_askonce"]
    routes = [route for route in mount.app._app.routes if route.path != "/static/{version}/{name:path}"]
    for route in routes:
        for method in route.methods:
            answer = await stranger.request(method, re.sub(r"\{\w+\}", "ab12", route.path.lstrip("/")))
            to_login = answer.headers.get("location", "").startswith("/_askonce/login")
            assert to_login or answer.status_code == 401 or route.path == "/login", (method, route.path)


async def test_the_token_opens_and_the_cookie_holds_no_token(stranger):
    answer = await stranger.post("login", data={"token": TOKEN, "next": "entries?scope=support"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/_askonce/entries?scope=support"
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert {"httponly", "samesite=lax", "path=/_askonce/"} <= {part.strip().lower() for part in cookie.split(";")}
    assert (await stranger.get("")).status_code == 200


async def test_over_https_the_cookie_is_for_https_alone(app):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="https://page/_askonce/") as client:
        answer = await client.post("login", data={"token": TOKEN})
    assert "secure" in answer.headers["set-cookie"].lower()


async def test_a_link_with_the_token_logs_in_and_takes_the_token_out_of_the_address(stranger):
    answer = await stranger.get("entries", params={"token": TOKEN, "scope": "support"})
    assert answer.status_code == 303
    assert answer.headers["location"] == "/_askonce/entries?scope=support"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert (await stranger.get("entries")).status_code == 200


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\udcff", "\u0000", "é"])
async def test_another_token_opens_nothing(stranger, token):
    for answer in (await stranger.post("login", data={"token": token.encode("utf-8", "surrogatepass")}),):
        assert answer.status_code == 403
        assert "set-cookie" not in answer.headers
    assert (await stranger.get("")).status_code == 303


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126, exclude_characters='";,\\'), max_size=90))
@settings(max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_no_cookie_but_ours_opens(app, cookie):
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, headers={"cookie": f"askonce_session={cookie}"}) as client:
        assert (await client.get(BASE)).status_code == 303


async def test_a_session_ends_after_its_time_and_with_its_token(cache):
    now = [NOW]
    view = ToldView(cache, Told())
    app = alone(page_app(view, Sessions(TOKEN, lambda: now[0])))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE) as client:
        await client.post("login", data={"token": TOKEN})
        assert (await client.get("")).status_code == 200
        other = httpx2.ASGITransport(alone(page_app(view, Sessions("another-token-of-the-same", lambda: now[0]))))
        async with httpx2.AsyncClient(transport=other, base_url=BASE, cookies=client.cookies) as elsewhere:
            assert (await elsewhere.get("")).status_code == 303
        now[0] += 13 * 3600
        assert (await client.get("")).status_code == 303


async def test_a_part_asked_for_by_a_page_whose_session_is_over_sends_the_page_to_the_login(stranger):
    answer = await stranger.get("part/figures", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/_askonce/login")


async def test_logging_out_ends_the_session_of_this_browser(browse):
    mark = mark_of((await browse.get("")).text)
    assert (await browse.post("logout", data={"csrf": "0" * 64})).status_code == 403
    assert (await browse.post("logout", data={"csrf": mark})).status_code == 303
    assert (await browse.get("")).status_code == 303


@given(st.one_of(st.text(max_size=40), st.from_regex(r"(https?:)?[/\\]{1,3}[a-z.]+", fullmatch=True)))
def test_the_login_sends_nobody_away_from_the_page(back):
    assert re.match(r"(entries|invalidate|$)", within(back))


CROSS = {
    "another site": {"sec-fetch-site": "cross-site"},
    "a sibling host": {"sec-fetch-site": "same-site"},
    "an old browser on another site": {"origin": "http://evil.example"},
    "a sandboxed frame": {"origin": "null"},
}


@pytest.mark.parametrize("headers", CROSS.values(), ids=CROSS)
async def test_a_post_from_another_site_changes_nothing(browse, cache, headers):
    key = await store(cache, "kept")
    mark = mark_of((await browse.get("invalidate")).text)
    data = {"by": "everything", "value": "", "csrf": mark}
    assert (await browse.post("invalidate", data=data, headers=headers)).status_code == 403
    assert [one.key async for one in cache.entries() if one.live] == [key]
    assert (await browse.post("login", data={"token": TOKEN}, headers=headers)).status_code == 403


@pytest.mark.parametrize("mark", ["", "0" * 64, "é", TOKEN])
async def test_a_form_without_the_mark_of_its_session_changes_nothing(browse, cache, mark):
    await store(cache, "kept")
    answer = await browse.post("invalidate", data={"by": "everything", "csrf": mark})
    assert answer.status_code == 403
    assert [one.live async for one in cache.entries()] == [True]


async def test_a_get_invalidates_nothing(browse, cache):
    await store(cache, "kept", scope="support")
    for query in ("by=everything", "by=scope&value=support", "by=everything&confirm=1&csrf=x"):
        assert (await browse.get(f"invalidate?{query}")).status_code == 200
    assert [one.live async for one in cache.entries()] == [True]


@pytest.mark.parametrize(
    ("body", "type_", "status"),
    [
        (b"x" * 20_000, "application/x-www-form-urlencoded", 413),
        (b"a=1&" * 40, "application/x-www-form-urlencoded", 400),
        (b'{"by":"everything"}', "application/json", 415),
        (b"by=everything", "text/plain", 415),
        (b"by=%ff%fe&csrf=%00", "application/x-www-form-urlencoded", 403),
        (b"", "application/x-www-form-urlencoded", 403),
    ],
)
async def test_what_is_no_form_of_ours_is_refused(browse, body, type_, status):
    answer = await browse.post("invalidate", content=body, headers={"content-type": type_})
    assert answer.status_code == status
