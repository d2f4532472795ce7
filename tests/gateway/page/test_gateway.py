"""The page of a real gateway: at its address alone, behind its token, with the numbers of its callers."""

from __future__ import annotations

import logging
from itertools import islice

import httpx2
import pytest

from askonce.gateway.page.overview import PARTS
from tests.gateway.page.test_shown import Page
from tests.gateway.running import CLIENT, Tap, config_of, serving

TOKEN = "a-token-of-the-operator"
BODY = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "hi"}]}


def test_a_gateway_shows_what_its_callers_saved_and_which_line_to_change(monkeypatch):
    for part in PARTS:
        monkeypatch.setitem(PARTS, part, 0.0)  # what is shared is read anew
    with Tap() as tap, serving(tap.url, f"/openai={tap.url}", admin_token=TOKEN) as gateway:
        with httpx2.Client(base_url=f"{gateway.url}/_askonce/", timeout=30, follow_redirects=True) as browser:
            assert "Admin token" in browser.get("").text
            empty = Page(browser.get("", params={"token": TOKEN}).text).words
            assert "Nothing was asked yet" in empty
            assert f"{gateway.url}/openai" in empty
            for _ in range(3):
                headers = {"authorization": "Bearer sk-one"}
                CLIENT.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers=headers, timeout=30)
            gateway.do(gateway.gateway.cache.savings())  # pushes what was counted
            page = Page(browser.get("").text).words
            assert "calls not made 2" in page or "Saved today 2 calls" in page
            assert "Hit ratio 67 %" in page
            assert "never asked" in page
            assert browser.get("api/about").json()["version"], "whoever is logged in may read the API"
            refused = browser.post("api/invalidate", json={"everything": True})
            assert refused.status_code == 401, "and change nothing by it"
        assert len(tap.heard) == 1


def test_without_a_token_there_is_no_page():
    with Tap() as tap, serving(tap.url) as gateway:
        for path in ("", "/", "/login", "/entries", "/static/x/page.js"):
            assert CLIENT.get(f"{gateway.url}/_askonce{path}", timeout=30).status_code == 404, path


def test_another_configuration_makes_another_page_and_ends_its_sessions():
    with (
        Tap() as tap,
        serving(tap.url, admin_token=TOKEN) as gateway,
        httpx2.Client(base_url=f"{gateway.url}/_askonce/", timeout=30) as browser,
    ):
        browser.post("login", data={"token": TOKEN})
        assert browser.get("").status_code == 200
        gateway.reload(config_of(tap.url, admin_token="another-token-of-the-operator"))
        assert browser.get("").status_code == 303


@pytest.mark.parametrize("changed", ["token", "no token", "store"])
def test_another_configuration_ends_what_an_open_page_is_told(changed, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr("askonce.gateway.page.live.STEP", 0.01)
    caplog.set_level(logging.ERROR)
    with (
        Tap() as tap,
        serving(tap.url, admin_token=TOKEN) as gateway,
        httpx2.Client(base_url=f"{gateway.url}/_askonce/", timeout=30) as browser,
    ):
        browser.post("login", data={"token": TOKEN})
        with browser.stream("GET", "live") as told:
            lines = told.iter_lines()
            beats = (line for line in lines if line == "event: beat")
            assert next(beats)
            if changed == "store":
                after = config_of(tap.url, store=f"sqlite:///{tmp_path}/other.db", admin_token=TOKEN)
            else:
                after = config_of(tap.url, **({"admin_token": TOKEN[::-1]} if changed == "token" else {}))
            gateway.reload(after)
            assert len(list(islice(beats, 100))) < 100  # and no error: it ends well
        assert browser.get("").status_code == {"token": 303, "no token": 404, "store": 200}[changed]
    assert caplog.records == []
