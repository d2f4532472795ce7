"""Whose answers a request may have, for one HTTP client: by what it carries, and by what was seen before.

Headers that count are in the key. The credential is in it as a digest; a short-lived credential cannot identify a
tenant, and gets no key. A header that is not known to be harmless is reported once: one of no class, or one that is new
on every call.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence

from askonce.core.fresh_headers import AGAIN, FreshHeaders
from askonce.core.headers import CREDENTIAL_HEADERS, asks_stream
from askonce.core.keys import Form
from askonce.core.rules import Ignored, Rules
from askonce.events import Events
from askonce.http.credentials import BOUND, Header, binds, fingerprint, rotates
from askonce.http.header_names import Places
from askonce.http.request import (
    OURS,
    PLAIN,
    RequestHeaders,
    SentRequest,
    Target,
    host_of,
    name_of,
    read_headers,
    text_of,
)

CALLERS = 1024  # credentials remembered, with whether they are short-lived
UNKNOWN = 1024  # unclassified headers reported

Counts = tuple[tuple[str, str], ...]

FRESH = (
    "the request header %s counts in the key, and it was new in the last %d repetitions of the same request: none of"
    " them could be answered by the cache. %s"
)
STRANGE = (
    "the request header %s is unknown to askonce, so the request went upstream without the cache: the header may be"
    " meant to say who owns the answer. The known headers are %s"
)
NEEDED = (
    "a short-lived credential (a JWT, OAuth, a signature, a ticket) or a client certificate cannot identify a tenant,"
    " so these calls are not cached: name the tenant, as in http_client(tenant='billing')"
)


class Callers:
    """Who asks, by what its requests carry. `fleeting`: cookies beside a tenant count, and where connections go.

    `ours`: the headers that speak to askonce.
    """

    def __init__(self, events: Events, rules: Rules, *, fleeting: bool = True, ours: Collection[str] = OURS) -> None:
        self._events = events
        self._ours = ours
        self._fleeting = fleeting
        self._ignored: Container[str] = Ignored(rules.ignore_headers) if rules.ignore_headers else ()
        self._named: set[str] = set()
        self._fresh = FreshHeaders()
        self._bound = False  # a connection was authenticated, and its later requests need no credential
        self._rotating: dict[str, bool] = {}

    @property
    def bound(self) -> bool:
        """Whether a connection was authenticated, so that a request may carry more than it shows."""
        return self._bound

    def read_headers(self, sent: SentRequest) -> RequestHeaders:
        """What the headers of a request carry."""
        return read_headers(sent.headers, self._ignored)

    def strange(self, ours: Mapping[str, str]) -> bool:
        """Whether a header addresses askonce but is unknown to it."""
        unknown = sorted(ours.keys() - self._ours)
        for name in unknown:
            self._events.warn_once(name, STRANGE, name, ", ".join(self._ours))
        return bool(unknown)

    def beside(self, sent: SentRequest, carries: RequestHeaders, target: Target) -> RequestHeaders:
        """What a request carries, with what its URL, its connection and another host add."""
        if carries.host == target.host and not target.secrets and not self._bound and sent.connection is PLAIN:
            return carries
        host, connection = carries.host, sent.connection
        counts, secrets = carries.counts, [carries.secrets, target.secrets, connection.secrets]
        if host and host_of(host, sent.url) != target.host and "host" not in self._ignored:
            counts += (("host", text_of(host)),)
        if self._fleeting:
            counts += connection.where
        if self._bound:
            secrets.append(BOUND)
        return carries._replace(counts=counts, secrets=b"\n".join(filter(None, secrets)))

    def counts(self, carries: RequestHeaders, form: Form, *, tenant: bool) -> Counts:
        """The headers that count in a key; `tenant`: the operator named one, which replaces the credential."""
        if carries.unknown or carries.cookies:
            self._name(*carries.unknown, *map(name_of, _lines(carries.cookies)))
        counts = carries.counts
        if form == "s":
            counts = tuple(pair for pair in counts if pair[0] != "accept" or not asks_stream(pair[1]))
        if carries.cookies and tenant and self._fleeting:
            # A tenant replaces the credential. A cookie may be one, or the session of one of the tenant's many users.
            counts += (("cookie", fingerprint(carries.cookies)),)
        return counts

    def _name(self, *unknown: str) -> None:
        for name in unknown:
            if name not in self._named and len(self._named) < UNKNOWN:
                self._named.add(name)
                self._events.emit("unclassified", detail=name)

    def note(self, sent: SentRequest, carries: RequestHeaders, counts: Counts, *, tenant: bool) -> None:
        """Note a request before its lookup; report headers that are new in every request."""
        secrets = carries.cookies if tenant else carries.secrets
        for name in self._fresh.note((sent.url, sent.body), (counts, secrets), lambda: _named(counts, secrets)):
            self._events.emit("fresh-header", detail=name)
            self._events.warn_once(f"fresh {name}", FRESH, name, AGAIN, _remedy(name))

    def needs_tenant(self, digest: str, secrets: bytes) -> bool:
        """Whether a credential is too short-lived to identify a tenant; `digest`: its fingerprint."""
        # Cached by fingerprint: searching the credential costs as much as everything else that is done with it.
        found = self._rotating.get(digest)
        if found is None:
            if len(self._rotating) >= CALLERS:
                self._rotating.clear()
            found = self._rotating[digest] = rotates(secrets)
        if found:
            self._events.warn_once("tenant-needed", NEEDED)
        return found

    def met(self, sent: Sequence[Header]) -> None:
        """Note a request that went upstream, and whether it authenticated a connection that others may use."""
        self._bound = self._bound or binds([sent[at] for at in _SHOWN.of(sent)])


_SHOWN = Places(lambda name: name.lower() == b"authorization")


def _lines(secrets: bytes) -> list[bytes]:
    return secrets.split(b"\n") if secrets else []


def _named(counts: Counts, secrets: bytes) -> Iterator[tuple[str, str | bytes]]:
    """Everything that distinguishes requests beside their URL and body, by name."""
    yield from counts
    for one in _lines(secrets):
        yield name_of(one), one


def _remedy(name: str) -> str:
    if name in CREDENTIAL_HEADERS:
        return "If it is a short-lived credential, name the tenant, as in http_client(tenant='billing')"
    return f"If no answer depends on it, write ignore_headers=[{name!r}]"
