"""Which request headers count in a key, and why the others do not.

A header is left out only if no proxy, gateway or provider can use it to decide who asks or what is answered. So names
are listed one by one. A family (a name that ends in ``*``) is left out only if all its members are one party's words
about itself. An unlisted header counts: the cost is a second call, and an event that names the header. The opposite
mistake would serve another caller's answer.

Some headers are judged by their value. Every client sends ``accept`` with a usual value that asks for nothing special;
an unusual value counts. ``baggage`` and similar headers mix members of a tracer with members of the application; only
the tracer's are left out. Cookies count, except those by which balancers and bot filters recognise a connection.
"""

from __future__ import annotations

import re

from askonce.core.providers.bounded import kept_by_text, lru_cache_of_short
from askonce.core.providers.named_tuples import NamedTuple


class HeaderClass(NamedTuple):
    """Headers that are treated alike, and why; `counts`: they are part of the key."""

    counts: bool
    reason: str
    names: frozenset[str]


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _class(reason: str, names: str, *, counts: bool = False) -> HeaderClass:
    return HeaderClass(counts, reason, _names(names))


# No name is in two classes; the first class that knows a name wins.
TABLE: dict[str, HeaderClass] = {
    "credential": _class(
        "Credentials and their proofs have a separate part of the key: the tenant, or a digest of them.",
        """authorization proxy-authorization cookie x-api-key api-key x-goog-api-key x-auth-token
        ocp-apim-subscription-key cf-aig-authorization x-portkey-api-key helicone-auth
        x-amz-date x-amz-security-token x-amz-content-sha256 signature signature-input dpop""",
    ),
    "ours": _class(
        "They are for askonce, which removes them before the request goes upstream.", "askonce-* cache-control"
    ),
    "counts": _class(
        "Providers choose the answer by them.", "anthropic-* openai-* x-amzn-bedrock-* x-goog-user-project", counts=True
    ),
    "who": _class(
        "Sign-in proxies, gateways and applications use them to say who asks, or from where.",
        """x-forwarded-user x-forwarded-email x-forwarded-groups x-forwarded-preferred-username
        x-forwarded-access-token x-auth-request-user x-auth-request-email x-auth-request-groups
        x-auth-request-preferred-username x-auth-request-access-token remote-user remote-name remote-email
        remote-groups x-remote-user x-webauth-user x-authenticated-userid x-goog-authenticated-user-id
        x-goog-authenticated-user-email x-goog-iap-jwt-assertion x-amzn-oidc-identity x-amzn-oidc-data
        x-amzn-oidc-accesstoken x-ms-client-principal x-ms-client-principal-id x-ms-client-principal-name
        x-ms-client-principal-idp x-ms-token-aad-access-token x-ms-token-aad-id-token cf-access-jwt-assertion
        cf-access-client-id cf-access-client-secret cf-access-authenticated-user-email x-pomerium-jwt-assertion
        x-authentik-username tailscale-user-login x-consumer-id x-consumer-username x-consumer-custom-id
        x-credential-identifier x-client-id x-client-secret x-client-name x-user-id x-tenant-id x-org-id
        helicone-user-id x-litellm-end-user-id x-litellm-customer-id x-openwebui-user-id x-openwebui-user-email
        x-openwebui-user-name x-openwebui-user-role x-forwarded-client-cert x-envoy-external-address
        x-envoy-peer-metadata x-envoy-peer-metadata-id forwarded x-forwarded-for x-forwarded-host
        x-forwarded-prefix x-real-ip true-client-ip cf-connecting-ip cf-ipcountry via origin referer http-referer
        x-title x-openrouter-title x-openrouter-categories""",
        counts=True,
    ),
    "hop": _class(
        "They describe one connection, and end with it.",
        "connection keep-alive proxy-connection te trailer transfer-encoding",
    ),
    "body": _class(
        "They describe the body, and the body is in the key.",
        "content-length content-md5 content-digest repr-digest digest",
    ),
    "client": _class(
        "SDKs describe themselves in them: name, version, platform, retries.",
        """user-agent x-stainless-* x-goog-api-client x-ms-useragent x-ms-user-agent x-amz-user-agent
        x-fern-language x-fern-sdk-name x-fern-sdk-version x-fern-runtime x-fern-runtime-version
        x-speakeasy-user-agent sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-ch-ua-platform-version
        sec-ch-ua-full-version sec-ch-ua-full-version-list sec-ch-ua-arch sec-ch-ua-bitness""",
    ),
    "trace": _class(
        "Tracers name the trace and span of a call in them; new for each call.",
        """traceparent traceresponse b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags
        x-b3-spanname x-ot-span-context ot-tracer-traceid ot-tracer-spanid ot-tracer-sampled uber-trace-id
        jaeger-debug-id grpc-trace-bin x-cloud-trace-context sentry-trace
        newrelic x-newrelic-id x-newrelic-transaction x-newrelic-synthetics
        x-datadog-trace-id x-datadog-parent-id x-datadog-origin x-datadog-sampling-priority x-datadog-sampled
        x-datadog-tags elastic-apm-traceparent x-honeycomb-trace x-instana-t x-instana-s x-instana-l
        x-instana-synthetic x-dynatrace x-dtc x-dtpc sw3 sw6 sw8 sw8-x singularityheader
        pinpoint-traceid pinpoint-spanid pinpoint-pspanid pinpoint-sampled pinpoint-flags pinpoint-pappname
        pinpoint-papptype pinpoint-host eagleeye-traceid eagleeye-rpcid sofa-traceid sofa-rpcid
        x-trace x-trace-options x-trace-id trace-id x-traceid traceid x-span-id span-id x-parent-span-id
        x-client-trace-id x-envoy-force-trace x-appgw-trace-id x-highlight-request
        bugsnag-span-sampling langsmith-trace opik_trace_id opik_parent_span_id langfuse_trace_id
        langfuse_existing_trace_id langfuse_parent_observation_id langfuse_generation_id
        x-litellm-trace-id cf-aig-otel-trace-id cf-aig-otel-parent-span-id
        x-portkey-trace-id x-portkey-span-id x-portkey-parent-span-id x-portkey-span-name""",
    ),
    "once": _class(
        "They identify one request or one attempt, for logs and against duplicates; new for each call.",
        """request-id x-request-id x-requestid requestid x-req-id x-request-uuid x-correlation-id correlation-id
        x-correlationid x-correlation-token x-transaction-id transaction-id x-global-transaction-id
        x-client-request-id client-request-id idempotency-key x-idempotency-key
        x-ms-client-request-id x-ms-request-id x-ms-correlation-id x-ms-correlation-request-id
        x-ms-request-root-id x-ms-request-parent-id ms-cv
        x-arr-log-id x-azure-ref x-amzn-requestid x-amz-request-id x-amz-cf-id amz-sdk-invocation-id
        amz-sdk-request x-cloud-request-id cf-ray cf-request-id cf-aig-event-id cf-aig-log-id x-vercel-id
        fly-request-id x-railway-request-id rndr-id x-nf-request-id x-github-request-id x-kong-request-id
        kong-request-id x-akamai-request-id akamai-grn x-tt-logid x-envoy-attempt-count
        helicone-request-id x-litellm-call-id x-irid""",
    ),
    "session": _class(
        "Gateways use them to group the calls of one session, in logs and on servers; new for each session.",
        """helicone-session-id helicone-session-path helicone-session-name helicone-job-id helicone-node-id
        x-litellm-session-id langfuse_session_id x-claude-code-session-id x-session-affinity
        x-faro-session-id x-posthog-session-id x-posthog-window-id""",
    ),
    "time": _class(
        "They say when a call was sent, or how long its sender waits.",
        """date x-request-start x-queue-start x-server-timeout x-request-timeout grpc-timeout
        x-envoy-expected-rq-timeout-ms""",
    ),
}

CREDENTIAL_HEADERS = TABLE["credential"].names


# --- headers whose value decides ---------------------------------------------------------------------------------


class Valued(NamedTuple):
    """A header that counts unless its value is plain; `plain` describes plain values for people."""

    plain: str
    reason: str
    pattern: re.Pattern[str]


def _valued(plain: str, reason: str, pattern: str) -> Valued:
    return Valued(plain, reason, re.compile(pattern, re.IGNORECASE))


_WEIGHT = r"(?:\s*;\s*(?:q=(?:1(?:\.0{0,3})?|0?\.(?=0{0,2}[1-9])\d{1,3})|charset=utf-8))*"
_CODING = r"(?:x-gzip|gzip|deflate|br|zstd|identity|\*)(?:\s*;\s*q=[01](?:\.\d{0,3})?)?"
_CODINGS = rf"{_CODING}(?:\s*,\s*{_CODING})*"
_STREAMS = r"(?:text/event-stream|application/vnd\.amazon\.eventstream)" + _WEIGHT
_JSON = r"(?:\*/\*|application/\*|application/json)" + _WEIGHT
_RANGES = rf"(?:(?:{_STREAMS})\s*,\s*)*{_JSON}(?:\s*,\s*(?:{_JSON}|{_STREAMS}))*"
_ONLY_STREAMS = re.compile(rf"{_STREAMS}(?:\s*,\s*{_STREAMS})*", re.IGNORECASE)

VALUED: dict[str, Valued] = {
    "accept": _valued(
        "JSON, an event stream (where one is asked for), or anything", "Every client sends these values.", _RANGES
    ),
    "accept-charset": _valued("utf-8", "JSON has no other charset.", r"utf-8|\*"),
    "accept-encoding": _valued(
        "gzip, deflate, br, zstd, identity, or none", "Answers are decoded before they are stored.", rf"(?:{_CODINGS})?"
    ),
    "accept-language": _valued("*", "It asks for no language.", r"\*"),
    "content-encoding": _valued("identity", "It says that the body is not encoded.", "identity"),
    "content-type": _valued(
        "application/json", "The body is JSON.", r'application/json(?:\s*;\s*charset="?utf-8"?)?\s*;?'
    ),
    "expect": _valued("100-continue", "It concerns one connection.", "100-continue"),
    "host": _valued("the URL's own host", "The URL is in the key.", r"(?!)"),
    "pragma": _valued("no-cache", "It is for caches on the way.", "no-cache"),
    "priority": _valued("as in RFC 9218", "It says how soon to answer, not what.", r"u=[0-7](?:\s*,\s*i)?|i"),
}


@lru_cache_of_short(1024)
def plain_value(name: str, value: str) -> bool:
    """Whether a header of VALUED (lower case) has a value that asks for nothing special."""
    return VALUED[name].pattern.fullmatch(value.strip()) is not None


def asks_stream(value: str) -> bool:
    """Whether an ``accept`` wants only a stream: plain where the request asks for a stream too."""
    return _ONLY_STREAMS.fullmatch(value.strip()) is not None


# --- headers whose members decide --------------------------------------------------------------------------------


class Members(NamedTuple):
    """A header that is a list, and the names of the members that a tracer writes for itself."""

    separator: str
    names: frozenset[str]


MEMBERS: dict[str, Members] = {
    "baggage": Members(
        ",",
        _names(
            """sentry-trace_id sentry-public_key sentry-sample_rate sentry-sample_rand sentry-sampled sentry-release
            sentry-environment sentry-transaction sentry-replay_id sentry-org_id"""
        ),
    ),
    # Vendors sign with their own name, or with one after the account's: 33@nr. Any other name may be a routing key of
    # the application.
    "tracestate": Members(",", _names("dd nr dt es ot in sw sentry")),
    "x-amzn-trace-id": Members(";", _names("root parent self sampled lineage")),
}


def counting_members(name: str, value: str) -> str:
    """The members of a MEMBERS header (lower case) that count; "" if only tracers wrote it."""
    known = MEMBERS[name]
    members = (one.strip() for one in value.split(known.separator))
    return known.separator.join(one for one in members if one and not _tracers(one, known.names))


def _tracers(member: str, names: frozenset[str]) -> bool:
    name = member.partition("=")[0].strip().lower()
    return name in names or name.rpartition("@")[2] in names


# --- cookies -----------------------------------------------------------------------------------------------------

# Balancers find their chosen server by these, and bot filters a browser they have tested. Names that an application
# might give its own session (SERVERID, fpc) are not listed.
BALANCER_COOKIES = (
    *("__cf_bm", "_cfuvid", "__cflb", "__cfruid", "__cfduid", "__cfwaitingroom", "cf_clearance"),
    *("AWSALB", "AWSALBCORS", "AWSALBTG", "AWSALBTGCORS", "AWSELB", "AWSELBCORS", "GCLB"),
    *("ARRAffinity", "ARRAffinitySameSite", "ApplicationGatewayAffinity", "ApplicationGatewayAffinityCORS"),
    *("ASLBSA", "ASLBSACORS", "x-ms-gateway-slice", "stsservicecookie"),
    *("ak_bmsc", "bm_sv", "bm_sz", "bm_mi", "bm_s", "bm_so", "bm_ss", "bm_lso", "_abck"),
    *("visid_incap_#", "incap_ses_#_#", "nlbi_#", "nlbi_#_#", "INGRESSCOOKIE"),  # #: a number
)
BALANCERS = re.compile("|".join(re.escape(one).replace(r"\#", r"\d+") for one in BALANCER_COOKIES).encode())


# --- classes -----------------------------------------------------------------------------------------------------

HEADER_CLASSES: dict[str, frozenset[str]] = {
    **{kind: known.names for kind, known in TABLE.items()},
    "valued": frozenset(VALUED),
    "members": frozenset(MEMBERS),
}


# The place and the name of the class of each known name, and of each family by what its names begin with.
_PLACED = [(name, (at, kind)) for at, (kind, known) in enumerate(HEADER_CLASSES.items()) for name in known]
_NAMES = {name: place for name, place in reversed(_PLACED) if not name.endswith("*")}
_FAMILIES = [(name[:-1], place) for name, place in _PLACED if name.endswith("*")]
_NO_CLASS = (len(HEADER_CLASSES), "")


@kept_by_text(1024)
def header_class(name: str) -> str:
    """The class of a header, in any case; empty for an unknown one, which counts and is reported by an event."""
    # Looked up and not searched: a head of 64 KB may have 6,000 names that nobody knows.
    name = name.lower()
    return min((_NAMES.get(name, _NO_CLASS), *(at for family, at in _FAMILIES if name.startswith(family))))[1]


def ignored_header(name: str, value: str | None = None) -> bool:
    """Whether a header is left out of the key. Without a value, the usual value is assumed."""
    kind = header_class(name)
    if kind in TABLE:
        return not TABLE[kind].counts
    if kind == "" or value is None:
        return kind != ""
    judge = plain_value if kind == "valued" else _plain_members
    return judge(name.lower(), value)


def _plain_members(name: str, value: str) -> bool:
    return not counting_members(name, value)
