"""What is decided from values alone: rules that match, what callers may say, tenants, credentials, fields, lines."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from askonce.core.policy import Control, Policy, resolve
from askonce.engine.question import Settings
from askonce.gateway.config import Rule
from askonce.gateway.credentials import BODY, CREDENTIALS, REFUSED, Credentials, Who
from askonce.gateway.field_globs import compiled, prune
from askonce.gateway.operator_rules import Conditions, Ruling, ruling, tightened
from askonce.gateway.settings import AdminConfig, TenantsConfig
from askonce.gateway.tenant_file import digest_of
from askonce.gateway.tenants import Tenants, bare
from askonce.gateway.toml_lines import positions
from askonce.http.response import Response

# --- rules -------------------------------------------------------------------------------------------------------

GLOBS = st.lists(st.text("abc*?[]!-", min_size=1, max_size=4), max_size=2).map(tuple)
NAMES = st.text("abc-]", max_size=4)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["on", "off", "opt-in"]),
        "scope": st.sampled_from(["a", "a/b"]),
        "tags": st.just(("t",)),
        "hit_usage": st.sampled_from(["recorded", "zero"]),
        "replay": st.sampled_from(["at-once", "paced"]),
        "policy": st.sampled_from([Policy(ttl=5), Policy(grace=1), Policy(ttl=7, max_age=9)]),
    },
)


def rules_of(rows: Any) -> list[Rule]:
    return [Rule(path=path, model=model, tenant=tenant, **said) for path, model, tenant, said in rows]


RULES = st.lists(st.tuples(GLOBS, GLOBS, GLOBS, SAID), max_size=5).map(rules_of)


@given(RULES, NAMES, NAMES, NAMES)
def test_the_rules_that_match_are_those_whose_globs_all_match(rules, path, model, tenant):
    conditions = Conditions(rules)
    mask = conditions.with_model(conditions.before_model(path, tenant), model)
    wanted = [
        rule
        for rule in rules
        if all(
            not globs or any(fnmatchcase(text, glob) for glob in globs)
            for globs, text in ((rule.path, path), (rule.model, model), (rule.tenant, tenant))
        )
    ]
    assert list(conditions.of(mask)) == wanted


@given(RULES)
def test_the_last_rule_that_says_something_counts_and_tags_add_up(rules):
    found = ruling(rules)
    last = {name: [getattr(rule, name) for rule in rules if getattr(rule, name)] for name in ("mode", "scope")}
    assert found.mode == (last["mode"] or ["on"])[-1]
    assert (found.settings.scope or "") == (last["scope"] or [""])[-1]
    assert found.settings.tags == sum((rule.tags for rule in rules), ())
    ttls = [rule.policy.ttl for rule in rules if rule.policy.ttl is not None]
    assert (found.settings.policy or Policy()).ttl == (ttls[-1] if ttls else None)
    assert found.zero_usage == (([rule.hit_usage for rule in rules if rule.hit_usage] or [""])[-1] == "zero")


def test_no_rules_say_nothing():
    assert ruling([]) == Ruling()


NUMBERS = st.none() | st.floats(0, 1e6)
POLICIES = st.builds(
    lambda ttl, grace, error: resolve(Policy(ttl=ttl, grace=grace, stale_if_error=error)),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
)


@given(
    POLICIES,
    st.builds(
        Settings,
        policy=st.none(),
        ttl=NUMBERS,
        scope=st.none() | st.sampled_from(["a", "a/b", "ab", "b"]),
        control=st.none() | st.builds(Control, max_stale=NUMBERS, stale_if_error=NUMBERS, max_age=NUMBERS),
    ),
    st.none() | st.sampled_from(["a", "a/b"]),
)
def test_whatever_a_caller_says_widens_nothing(terms, said, scope):
    found = tightened(said, Settings(scope=scope), terms)
    assert found.ttl is None or found.ttl <= terms.ttl
    assert found.scope is None or scope is None or found.scope == scope or found.scope.startswith(f"{scope}/")
    if isinstance(found.control, Control):
        assert (found.control.max_stale or 0) <= max(terms.grace, terms.stale_if_error)
        assert (found.control.stale_if_error or 0) <= terms.stale_if_error
        assert found.control.max_age == said.control.max_age


# --- fields ------------------------------------------------------------------------------------------------------

BODIES = st.recursive(
    st.integers(0, 3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


def paths(value, way=()):
    """The paths of all fields."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield (*way, name)
            yield from paths(part, (*way, name))
    if isinstance(value, list):
        for at, part in enumerate(value):
            yield from paths(part, (*way, str(at)))


@given(BODIES, st.lists(st.sampled_from(["a", "a.b", "*.b", "a.*.c", "b.0.*", "c.*.*"]), max_size=3))
def test_exactly_the_named_fields_are_left_out_with_what_is_below(body, globs):
    before = set(paths(body))

    def named(path):
        return any(
            len(steps) == len(path) and all(map(fnmatchcase, path, steps))
            for steps in (one.split(".") for one in globs)
        )

    wanted = {path for path in before if not any(named(path[:depth]) for depth in range(1, len(path) + 1))}
    prune(body, compiled(globs))
    assert set(paths(body)) == wanted


# --- credentials -------------------------------------------------------------------------------------------------

A, B = Who("https://one", "a"), Who("https://one", "b")
NO = Response(401, [(b"set-cookie", b"x"), (b"x-request-id", b"1")], b"no")


def test_a_credential_is_known_only_for_a_while():
    known = Credentials(recheck=100.0)
    known.accept(A, 1, 10.0)
    assert [known.accepted(A, 1, now) for now in (10.0, 109.9, 110.0)] == [True, True, False]
    assert not any(known.accepted(who, way, 11.0) for who, way in ((A, 2), (B, 1), (Who("https://two", "a"), 1)))


def test_a_refusal_lasts_a_minute_whatever_is_asked_meanwhile_and_comes_without_cookies():
    known = Credentials(recheck=3600.0)
    known.refused(A, 1, NO, 0.0)
    for now in (0.0, 30.0, 59.9):
        found = known.refusal(A, 1, now)
        assert found is not None
        assert (found.status, found.headers, found.body) == (401, [(b"x-request-id", b"1")], b"no")
        assert known.refusal(A, 2, now) is None
    assert known.refusal(A, 1, REFUSED) is None


def test_a_refusal_ends_all_that_was_known_and_proved_before_it():
    known = Credentials(recheck=100.0)
    known.accept(A, 1, 0.0)
    known.accept(B, 1, 0.0)
    known.refused(A, 2, NO, 10.0)
    assert not known.accepted(A, 1, 11.0)
    assert not known.lapsed(A, 1)
    assert known.accepted(B, 1, 11.0)
    assert known.proof_age(A, 12.0) == 2.0
    assert known.proof_age(A, 1000.0) == known.proof_age(B, 12.0) == 100.0


def test_a_credential_that_was_accepted_long_ago_has_lapsed_until_it_is_refused():
    known = Credentials(recheck=1.0)
    known.accept(A, 1, 0.0)
    assert known.lapsed(A, 1)
    known.refused(A, 1, Response(403, [], b""), 5.0)
    assert not known.lapsed(A, 1)


def test_bad_credentials_do_not_displace_good_ones_and_take_bounded_memory():
    known = Credentials(recheck=100.0)
    known.accept(A, 1, 0.0)
    for number in range(CREDENTIALS * 3):
        known.refused(Who("https://one", str(number)), number, NO, 1.0)
    known.refused(B, 1, Response(401, [], b"x" * (BODY + 1)), 1.0)
    assert known.accepted(A, 1, 2.0)
    assert known.refusal(B, 1, 2.0) is None
    assert len(known._refused) <= 1024
    assert len(known._doubted) <= 16384
    for number in range(CREDENTIALS * 2):
        known.accept(Who("https://one", str(number)), number, 1.0)
    assert len(known._accepted) <= CREDENTIALS


# --- tenants -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"authorization:Bearer sk-1", b"sk-1"),
        (b"authorization:bearer   sk-1 ", b"sk-1"),
        (b"authorization:sk-1", b"sk-1"),
        (b"authorization:Basic dXNlcjpwdw==", b"dXNlcjpwdw=="),
        (b"x-api-key: sk-1", b"sk-1"),
        (b"key=a%2Bb", b"a+b"),
    ],
)
def test_the_bare_key_is_what_a_digest_is_made_of(line, key):
    assert bare(line) == key
    names = {digest_of(key): "red"}
    tenants = Tenants(TenantsConfig(by="file", file="x"), names)
    assert tenants.name_of((), line) == "red"
    assert tenants.name_of((), line + b"\ncookie:session=1") == "red"
    assert tenants.name_of((), line + b"\nx-api-key:other") == ""
    assert tenants.name_of((), b"") == ""


@pytest.mark.parametrize(
    ("bind", "local", "served"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.8.8.8", True),
        ("127.0.0.1", "::1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "10.0.0.5", False),
        ("127.0.0.1", "::ffff:10.0.0.5", False),
        ("127.0.0.1", "fe80::1%eth0", False),
        ("127.0.0.1", "localhost", False),
        ("127.0.0.1", "", False),
        ("127.0.0.1", None, True),
        ("0.0.0.0", "10.0.0.5", True),
        ("::", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.5", "10.0.0.6", False),
        ("10.0.0.5", "127.0.0.1", False),
    ],
)
def test_the_admin_pages_are_served_at_the_address_that_they_are_bound_to(bind, local, served):
    assert AdminConfig(bind=bind).reachable(local) is served


# --- lines -------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "c-d", "x_1", '"q.r"', "'s t'", '"u\\"v"'])
SCALARS = st.sampled_from(
    ["1", "-1.5e3", "true", "'a]#'", '"b = [\\""', "2020-01-01T00:00:00Z", '"""x\n[t]\n"y" = 1"""', "'''\n#'''", "0xFF"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "[" + " ,\n # c ]\n".join(parts) + "\n]"),
    max_leaves=6,
)
INLINE = st.lists(st.tuples(st.sampled_from(["k", "l", "m"]), SCALARS), max_size=3, unique_by=lambda one: one[0]).map(
    lambda parts: "{" + ", ".join(f"{name} = {value}" for name, value in parts if "\n" not in value) + "}"
)
PAIRS = st.lists(st.tuples(KEYS, VALUES | INLINE), max_size=4, unique_by=lambda one: one[0])
TABLES = st.lists(st.tuples(st.sampled_from(["[[rule]]", "[[upstream]]"]), PAIRS), max_size=4)


@given(TABLES)
def test_each_key_of_a_valid_file_is_found_in_its_line(tables):
    lines = ["# a comment [x]", ""]
    wanted = {}
    counts = {"rule": 0, "upstream": 0}
    for header, pairs in tables:
        name = header.strip("[]")
        number = counts[name]
        counts[name] += 1
        wanted[name, number] = len(lines) + 1
        lines.append(f"  {header} # here")
        for key, value in pairs:
            plain = next(iter(tomllib.loads(f"{key} = 1")))
            wanted[name, number, plain] = len(lines) + 1
            lines += f"{key} = {value} # {key}".split("\n")
    text = "\r\n".join(lines) if '"""' not in "".join(lines) else "\n".join(lines)
    tomllib.loads(text)
    found = positions(text)
    assert {path: found.get(path) for path in wanted} == wanted
