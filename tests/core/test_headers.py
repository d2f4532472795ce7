"""A header counts unless no party on the way can use it to decide who asks or what is answered."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from askonce.core.headers import BALANCERS, HEADER_CLASSES, MEMBERS, TABLE, VALUED, header_class, ignored_header

TOKEN = string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~"
LISTED = {name for known in HEADER_CLASSES.values() for name in known}
FAMILIES = sorted(name[:-1] for name in LISTED if name.endswith("*"))

# Families that say who asks, from where, or by which way, after each prefix that a proxy may add.
WHO = [
    "x-forwarded-",
    "x-client-",
    "x-envoy-",
    "x-auth-request-",
    "x-goog-",
    "x-amzn-",
    "x-ms-",
    "cf-",
    "x-ssl-",
    "x-litellm-",
    "helicone-",
    "cf-aig-",
    "x-portkey-",
    "x-kong-",
    "x-consumer-",
    "remote-",
    "x-remote-",
    "content-",
    "accept-",
    "sec-",
    "x-b3-",
    "x-datadog-",
    "x-fern-",
    "uberctx-",
    "ot-baggage-",
    "x-openwebui-",
    "amz-sdk-",
    "if-",
    "x-amz-",
    "x-real-",
    "x-original-",
]


@given(st.text(TOKEN, min_size=1, max_size=40))
def test_any_header_that_nobody_lists_counts(name):
    assume(name.lower() not in LISTED and not any(name.lower().startswith(family) for family in FAMILIES))
    assert header_class(name) == ""
    assert not ignored_header(name)


@given(st.sampled_from(WHO), st.text(string.ascii_lowercase + "-", min_size=1, max_size=20))
def test_no_family_that_may_say_who_asks_is_left_out_as_a_family(family, rest):
    name = family + rest
    assert not ignored_header(name) or name in LISTED


def test_a_family_is_left_out_only_where_it_is_one_partys_words_about_itself():
    left_out = {name for known in TABLE.values() if not known.counts for name in known.names if name.endswith("*")}
    assert left_out == {"askonce-*", "x-stainless-*"}


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-User",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Client-Cert",
        "X-Client-Id",
        "X-Client-Secret",
        "Forwarded",
        "Via",
        "X-Real-IP",
        "True-Client-IP",
        "Origin",
        "Referer",
        "HTTP-Referer",
        "X-Title",
        "Sec-Token-Binding",
        "Sec-Fetch-Site",
        "X-Envoy-Peer-Metadata",
        "X-Envoy-Original-Path",
        "Content-Language",
        "Accept-Version",
        "If-Match",
        "uberctx-user",
        "ot-baggage-tenant",
        "sw8-correlation",
        "correlation-context",
        "Upgrade",
        "X-Session-Id",
        "X-Portkey-Config",
        "X-Portkey-Metadata",
        "Helicone-Cache-Seed",
        "Helicone-Fallbacks",
        "Helicone-Prompt-Id",
        "Helicone-User-Id",
        "Helicone-Target-URL",
        "cf-aig-cache-key",
        "cf-aig-metadata",
        "x-litellm-tags",
        "X-Goog-Authenticated-User-Email",
        "X-Amzn-Oidc-Identity",
        "X-MS-CLIENT-PRINCIPAL",
        "Cf-Access-Jwt-Assertion",
        "Remote-User",
        "X-Consumer-Username",
        "CF-IPCountry",
        "CDN-Loop",
        "X-HTTP-Method-Override",
    ],
)
def test_what_a_proxy_a_gateway_or_a_provider_decides_by_counts(name):
    assert not ignored_header(name)


@pytest.mark.parametrize(
    ("name", "plain", "telling"),
    [
        ("accept", ["application/json", "*/*", "application/json, text/event-stream", "text/event-stream,*/*;q=0.8"], None),
        ("Accept", [], ["text/plain", "application/json;version=2", "audio/mpeg", "application/json;q=0", "", "text/event-stream"]),
        ("accept-language", ["*"], ["de", "en;q=0.8", ""]),
        ("accept-charset", ["utf-8", "UTF-8"], ["latin-1"]),
        ("content-type", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=UTF-8"], None),
        ("content-type", [], ["text/plain", "application/json; charset=latin-1", "application/x-ndjson"]),
        ("content-encoding", ["identity"], ["gzip", "br"]),
        ("accept-encoding", ["gzip, deflate", "identity", "", "gzip;q=1.0,deflate;q=0.6,identity;q=0.3"], ["aws-chunked"]),
        ("priority", ["u=1, i", "u=5", "i"], ["high"]),
        ("pragma", ["no-cache"], ["akamai-x-cache-on"]),
        ("expect", ["100-continue"], ["something"]),
        ("baggage", ["sentry-trace_id=1,sentry-sampled=true", "sentry-release=a;b=c , sentry-environment=e"], None),
        ("baggage", [], ["user=alice", "sentry-trace_id=1, tenant=acme", "sd-routing-key=a", "sentry-user_id=7"]),
        ("tracestate", ["dd=s:1", "33@nr=0-0", "es=s:1,fw5@dt=x"], ["sd-routing-key=a", "dd=s:1,mine=2"]),
        ("x-amzn-trace-id", ["Root=1-2-3", "Root=1;Parent=2;Sampled=1", "Self=1;Root=2"], ["Root=1;CalledFrom=app"]),
    ],
)  # fmt: skip
def test_a_header_whose_value_decides_counts_by_its_value(name, plain, telling):
    assert [ignored_header(name, value) for value in plain] == [True] * len(plain)
    assert [ignored_header(name, value) for value in telling or ()] == [False] * len(telling or ())


@given(st.sampled_from(sorted(VALUED)), st.text(string.ascii_letters + string.digits + " /;=,*.-", max_size=20))
def test_a_value_that_is_not_the_usual_one_counts(name, value):
    if ignored_header(name, value):
        assert re.search(
            r"^$|json|\*|event-?stream|utf-8|identity|gzip|deflate|br|zstd|no-cache|100-continue|u=|^i$",
            value.strip().lower(),
        )


@given(
    st.sampled_from(sorted(MEMBERS)),
    st.lists(st.sampled_from(["user=alice", "tenant=b", "mine@acme=1", "route=x"]), min_size=1, max_size=3),
    st.integers(0, 3),
)
def test_an_applications_member_counts_wherever_it_stands_among_a_tracers(name, own, place):
    separator, names = MEMBERS[name]
    tracers = [f"{one}=1" for one in sorted(names)]
    mixed = [*tracers[:place], *own, *tracers[place:]]
    assert not ignored_header(name, separator.join(mixed))
    assert ignored_header(name, separator.join(tracers))


@pytest.mark.parametrize(
    "name", ["SERVERID", "fpc", "session", "__cf_user", "AWSALBUM", "visid_incap_me", "sid", "awsalb"]
)
def test_a_cookie_that_an_application_may_call_its_own_is_no_balancers(name):
    assert not BALANCERS.fullmatch(name.encode())


@pytest.mark.parametrize(
    "name", ["__cf_bm", "_cfuvid", "AWSALB", "visid_incap_12", "incap_ses_1_23", "nlbi_12_34", "bm_sv"]
)
def test_a_balancers_cookie_is_known(name):
    assert BALANCERS.fullmatch(name.encode())
