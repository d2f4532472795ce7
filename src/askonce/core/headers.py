"""Which request headers count.

All do, except those of families that cannot change an answer: how the message travels, who carries it, what traces it,
and what is different on every attempt. Credentials stay out as well, because they are the tenant, which has a part of
the key to itself. An unknown header counts, at the price of a call paid twice; the event that names it once is the
place to learn that one is missing here.
"""

from __future__ import annotations

from askonce.core.bounded import lru_cache_of_short

CREDENTIAL_HEADERS = frozenset(  # these are the tenant, or prove it
    {
        *("authorization", "proxy-authorization", "cookie"),
        *("x-api-key", "api-key", "x-goog-api-key", "x-auth-token", "ocp-apim-subscription-key"),
        *("x-amz-date", "x-amz-security-token", "x-amz-content-sha256"),
        *("cf-aig-authorization", "x-portkey-api-key", "helicone-auth"),
    }
)
# A name that ends in * is a family; the first class that knows a name has it.
HEADER_CLASSES: dict[str, frozenset[str]] = {
    "credential": CREDENTIAL_HEADERS,
    "ours": frozenset({"askonce-*", "cache-control"}),
    "counts": frozenset({"anthropic-*", "openai-*", "x-amzn-bedrock-*", "x-goog-user-project"}),
    "hop": frozenset(
        {
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "host",
            "expect",
            "via",
        }
    ),
    "form": frozenset({"accept", "accept-*", "content-*"}),
    "client": frozenset(
        {
            *("user-agent", "x-stainless-*", "x-goog-api-client", "x-client-*", "x-fern-*", "x-ms-useragent"),
            *("referer", "http-referer", "x-title", "x-openrouter-title", "x-openrouter-categories"),
            *("origin", "sec-*", "dnt", "priority"),
        }
    ),
    "trace": frozenset(
        {
            *("traceparent", "tracestate", "baggage", "b3", "x-b3-*", "sentry-trace", "newrelic"),
            *("x-cloud-trace-context", "x-amzn-trace-id", "x-datadog-*", "elastic-apm-traceparent"),
            *("uber-trace-id", "uberctx-*"),
        }
    ),
    "once": frozenset(
        {
            *("request-id", "x-request-id", "x-ms-client-request-id", "x-amzn-requestid"),
            *("x-correlation-id", "idempotency-key", "x-idempotency-key", "amz-sdk-*"),
        }
    ),
    "time": frozenset(
        {"date", "x-request-start", "x-queue-start", "x-server-timeout", "x-request-timeout", "grpc-timeout"}
    ),
    "route": frozenset(
        {
            *("forwarded", "x-forwarded-*", "x-real-ip", "true-client-ip", "x-envoy-*", "x-amz-cf-id"),
            *("cf-ray", "cf-connecting-ip", "cf-ipcountry", "cf-visitor", "cdn-loop"),
        }
    ),
    "http-cache": frozenset({"pragma", "if-*"}),
}
_IGNORED = HEADER_CLASSES.keys() - {"counts"}


@lru_cache_of_short(1024)
def header_class(name: str) -> str:
    """The class of a header, in any case; empty for an unknown one, which counts and is worth an event."""
    name = name.lower()
    return next((kind for kind, known in HEADER_CLASSES.items() if any(_is(name, one) for one in known)), "")


def ignored_header(name: str) -> bool:
    """Whether a header stays out of the headers' part of a key."""
    return header_class(name) in _IGNORED


def _is(name: str, known: str) -> bool:
    return name == known or (known.endswith("*") and name.startswith(known[:-1]))
