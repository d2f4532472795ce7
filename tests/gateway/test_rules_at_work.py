"""Operator rules on a running gateway: by path, model and tenant; what callers may tighten, and what they may not."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.gateway.asking import Provider, ask, configured, told, was_hit
from tests.gateway.running import CLIENT, Running, Tap, answer


@pytest.fixture
def tap():
    with Tap(Provider()) as tap:
        yield tap


def why(response):
    return response.headers["cache-status"].partition("detail=")[2]


def twice(running, *given, **more):
    ask(running, *given, **more)
    return ask(running, *given, **more)


def test_modes_hold_by_path_by_model_and_by_tenant(tmp_path, tap):
    text = """
    [[rule]]
    mode = "opt-in"
    [[rule]]
    model = "GPT-4*"
    mode = "on"
    [[rule]]
    model = "gpt-4-secret"
    mode = "off"
    [[rule]]
    tenant = "red"
    mode = "off"
    [tenants]
    by = "header"
    """
    with Running(configured(tmp_path, tap, text)) as running:
        assert was_hit(twice(running, model="gpt-4o"))
        assert why(twice(running, model="gpt-4-secret")) == "rule-off"
        assert why(twice(running, model="o3")) == "not-asked"
        assert was_hit(twice(running, model="o3", askonce_mode="on"))
        assert was_hit(twice(running, model="o3", askonce_tags="doc:1"))
        assert why(twice(running, model="gpt-4o", askonce_tenant="red")) == "rule-off"
        assert why(twice(running, model="gpt-4-secret", askonce_mode="on")) == "rule-off"
        assert why(twice(running, model="gpt-4o", askonce_mode="off")) == "asked-off"
        assert why(twice(running, model="gpt-4o", askonce_mode="perhaps")) == "bad-settings"


@pytest.mark.parametrize("by", ["mode", "header"])
def test_a_gateway_that_takes_only_what_is_stored_sends_nothing_upstream_but_what_a_rule_leaves_out(tmp_path, tap, by):
    rules = "[[rule]]\npath = '/v1/open/*'\nmode = 'off'\n"
    config = configured(tmp_path, tap, rules)
    if by == "mode":
        config = replace(config, store=replace(config.store, mode="only-if-cached"))
    said = {"cache_control": "only-if-cached"} if by == "header" else {}
    with Running(config) as running:
        for more in ({}, {"tools": [{"type": "function", "function": {"name": "f"}}]}, {"moods": [1]}):
            assert ask(running, more=more, **said).status_code == 504
        assert ask(running, path="/v1/files", **said).status_code == 504
        assert ask(running, askonce_mode="off", **said).status_code == 504
        assert ask(running, text="x" * 9_000_000, **said).status_code == 504, "larger than the buffer"
        pieces = iter([b"x" * 1000] * 3000)
        sent = {name.replace("_", "-"): value for name, value in said.items()}
        assert CLIENT.post(f"{running.url}/v1/files", content=pieces, headers=sent).status_code == 504
        assert tap.heard == []
        ask(running, path="/v1/open/chat/completions", **said)
        assert len(tap.heard) == 1


def test_a_path_is_the_gateways_own_with_the_path_of_its_upstream(tmp_path, tap):
    text = f"""
    [[upstream]]
    path = "/quiet"
    url = "{tap.url}"
    [[rule]]
    path = "/quiet/*"
    mode = "off"
    """
    with Running(configured(tmp_path, tap, text)) as running:
        assert why(twice(running, path="/quiet/v1/chat/completions")) == "rule-off"
        assert was_hit(twice(running, path="/v1/chat/completions"))


def ttl_of(response):
    return int(response.headers["cache-status"].partition("ttl=")[2].partition(";")[0])


@pytest.mark.parametrize(("said", "ttl"), [("30", 30), ("6000", 600), ("1e99", 600), ("600", 600), ("0.4", 0)])
def test_a_callers_ttl_only_shortens_the_operators(tmp_path, tap, said, ttl):
    with Running(configured(tmp_path, tap, "[[rule]]\nttl = 600\n")) as running:
        response = twice(running, askonce_ttl=said)
        if ttl:
            assert ttl * 0.9 < ttl_of(response) <= ttl  # it is dithered by a twentieth
        plain = ask(running)
        assert not was_hit(plain) or ttl_of(plain) <= 600


@pytest.mark.parametrize("said", ["-1", "nan", "-inf", "soon", "1,2", ""])
def test_a_ttl_that_is_none_is_no_reason_to_fail(tmp_path, tap, said):
    with Running(configured(tmp_path, tap, "")) as running:
        assert told(ask(running, askonce_ttl=said)) == "answer 1"


def test_a_callers_freshness_that_cannot_be_read_takes_no_stored_answer(tmp_path, tap):
    with Running(configured(tmp_path, tap, "")) as running:
        ask(running)
        for said in ("max-age=-1", "min-fresh=soon", "max-age=60, max-age=", f'max-age="{"9" * 400}"'):
            assert was_hit(ask(running, cache_control=said)) is said.endswith('9"')
            assert was_hit(ask(running))


def test_a_callers_scope_stays_within_the_operators_and_its_tags_are_added(tmp_path, tap):
    text = "[[rule]]\nscope = 'support'\ntags = ['all']\n"
    with Running(configured(tmp_path, tap, text)) as running:
        for scope in (None, "support", "support/triage", "secret", "supporters"):
            ask(running, text=str(scope), askonce_tags="mine, other", **({"askonce_scope": scope} if scope else {}))

        def stored(**selector):
            return running.do(running.gateway.cache.invalidate(**selector, dry_run=True))

        found = {scope: stored(scope=scope) for scope in ("support", "support/triage", "support/secret", "secret")}
        assert found == {"support": 5, "support/triage": 1, "support/secret": 1, "secret": 0}
        assert [stored(tag=tag) for tag in ("all", "mine", "other")] == [5, 5, 5]


def test_strong_consistency_and_lifetimes_of_the_operator_are_not_widened():
    from askonce.core.policy import Control, Policy, resolve
    from askonce.engine.question import Settings
    from askonce.gateway.operator_rules import tightened

    terms = resolve(Policy(ttl=600, grace=5, stale_if_error=10, consistency="strong"))
    said = Settings(
        ttl=900, consistency="bounded", control=Control(max_stale=float("inf"), stale_if_error=900, no_cache=True)
    )
    found = tightened(said, Settings(), terms)
    assert (found.ttl, found.consistency) == (None, None)
    assert found.control == Control(max_stale=10, stale_if_error=10, no_cache=True)


def test_ignored_fields_and_headers_do_not_count_for_the_requests_that_the_rule_names(tmp_path, tap):
    text = """
    [[rule]]
    model = "gpt-4o"
    ignore_fields = ["x_trace", "metadata.run_*", "messages.*.x_id"]
    ignore_headers = ["x-turn-*"]
    """
    with Running(configured(tmp_path, tap, text)) as running:
        for number, model in ((1, "gpt-4o"), (2, "gpt-4o"), (1, "o3"), (2, "o3")):
            more = {
                "x_trace": number,
                "metadata": {"run_id": str(number), "kept": "1"},
                "messages": [{"role": "user", "content": "hi", "x_id": number}],
            }
            response = ask(running, model=model, more=more, x_turn_id=str(number))
            assert was_hit(response) is (model == "gpt-4o" and number == 2), (model, number)
        more["metadata"] = {"run_id": "1", "kept": "2"}
        assert not was_hit(ask(running, model="gpt-4o", more=more))
    sent = json.loads(tap.heard[0].body)
    assert sent["x_trace"] == 1
    assert sent["metadata"] == {"run_id": "1", "kept": "1"}


def test_hosts_that_are_one_upstream_share_answers(tmp_path, tap):
    text = f"""
    [[upstream]]
    path = "/eu"
    url = "http://localhost:{tap.port}"
    [[rule]]
    same = ["{tap.host}", "localhost:{tap.port}"]
    """
    with Running(configured(tmp_path, tap, text)) as running:
        ask(running)
        assert was_hit(ask(running, path="/eu/v1/chat/completions"))


def test_a_batch_of_inputs_goes_upstream_with_its_ignored_fields(tmp_path):
    def says(heard):
        inputs = json.loads(heard.body)["input"]
        data = [{"object": "embedding", "index": at, "embedding": [0.5]} for at, _ in enumerate(inputs)]
        body = {"object": "list", "data": data, "model": "e", "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        return answer(json.dumps(body).encode())

    text = "[[rule]]\nignore_fields = ['user', 'x_trace']\n"
    with Tap(says) as tap, Running(configured(tmp_path, tap, text)) as running:
        for number, inputs in ((1, ["a", "b"]), (2, ["b", "c"])):
            body = {"model": "e", "input": inputs, "x_trace": number, "user": str(number)}
            CLIENT.post(
                running.url + "/v1/embeddings", json=body, headers={"authorization": "Bearer sk-a"}
            ).raise_for_status()
    sent = [json.loads(one.body) for one in tap.heard]
    assert [one["input"] for one in sent] == [["a", "b"], ["c"]]
    assert [one["x_trace"] for one in sent] == [1, 2]


def test_what_callers_say_to_askonce_is_taken_off_and_everything_else_arrives(tmp_path, tap):
    said = {
        "askonce_scope": "s",
        "askonce_tags": "t",
        "askonce_ttl": "5",
        "askonce_variant": "2",
        "askonce_mode": "on",
        "askonce_consistency": "strong",
    }
    with Running(configured(tmp_path, tap, "")) as running:
        ask(running, cache_control="max-age=60", x_mine="1", **said)
    names = [name.lower() for name, _ in tap.heard[0].headers]
    assert b"x-mine" in names
    assert b"cache-control" in names
    assert not [name for name in names if name.startswith(b"askonce")]


def test_a_new_configuration_holds_from_the_next_request_on(tmp_path, tap):
    with Running(configured(tmp_path, tap, "")) as running:
        assert was_hit(twice(running))
        running.reload(configured(tmp_path, tap, "[[rule]]\nmode = 'off'\n"))
        assert why(ask(running, text="after")) == "rule-off"
        assert why(ask(running)) == "rule-off"
