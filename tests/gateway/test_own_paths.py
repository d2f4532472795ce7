"""The gateway's own paths: who may see what is below /_askonce, and what is not mounted."""

from __future__ import annotations

import httpx2
import pytest

from tests.gateway.running import CLIENT, Tap, config_of, raw_call, request, serving

TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture(scope="module")
def tap():
    with Tap() as tap:
        yield tap


@pytest.fixture(scope="module")
def without(tap):
    """A gateway without a token, of which nothing goes upstream."""
    with serving(tap.url) as running:
        yield running


def test_with_a_token_the_api_the_page_and_the_metrics_are_served_to_whoever_has_it():
    with Tap() as tap, serving(tap.url, admin_token=TOKEN) as running, httpx2.Client(base_url=running.url) as client:
        shown = {"authorization": f"Bearer {TOKEN}"}
        assert client.get("/_askonce/api/stats").status_code == 401
        assert client.get("/_askonce/api/stats", headers=shown).status_code == 200
        assert client.get("/_askonce/metrics").status_code == 401
        assert "askonce_" in client.get("/_askonce/metrics", headers=shown).text
        page = client.get("/_askonce/", follow_redirects=True)
        assert page.url.path.endswith("/login")
        assert page.headers["content-type"].startswith("text/html")
    assert not tap.heard


@pytest.mark.parametrize("path", ["/_askonce", "/_askonce/", "/_askonce/api/stats", "/_askonce/metrics", "/_askonce/x"])
def test_without_a_token_nothing_is_there_and_nothing_goes_upstream(without, tap, path):
    came = CLIENT.get(f"{without.url}{path}")
    assert came.status_code == 404
    assert not tap.heard


def test_another_address_than_the_bound_one_sees_nothing():
    with Tap() as tap, serving(tap.url, admin_token=TOKEN, admin_bind="10.1.2.3") as running:
        for path in ("/_askonce/", "/_askonce/api/stats"):
            came = CLIENT.get(f"{running.url}{path}", headers={"authorization": f"Bearer {TOKEN}"})
            assert came.status_code == 404


def test_a_path_that_only_begins_like_an_own_one_goes_upstream():
    with Tap() as tap, serving(tap.url, admin_token=TOKEN) as running:
        raw_call(running.port, request(method="GET", path="/_askoncex"))
    assert tap.heard[0].line.split()[1] == b"/_askoncex"


@pytest.mark.parametrize("method", ["HEAD", "POST", "DELETE"])
def test_health_is_only_read(without, method):
    came = CLIENT.request(method, f"{without.url}/_askonce/health")
    assert came.status_code == (200 if method == "HEAD" else 405)


def test_a_reload_changes_the_token():
    with Tap() as tap, serving(tap.url, admin_token=TOKEN) as running:
        shown = {"authorization": f"Bearer {TOKEN}"}
        assert CLIENT.get(f"{running.url}/_askonce/api/stats", headers=shown).status_code == 200
        running.reload(config_of(tap.url, admin_token=TOKEN[::-1]))
        assert CLIENT.get(f"{running.url}/_askonce/api/stats", headers=shown).status_code == 401
