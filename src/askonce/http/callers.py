"""Whose answer it is, for one HTTP client: what its requests carry, and what has been seen of those before.

The headers that count are in the key, the credential is in it as a digest, and what names nobody for long is refused a
key. What is not known to be harmless is named once: a header that no class knows, one that is new on every call.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from askonce.core.fresh import AGAIN, Freshness
from askonce.core.headers import CREDENTIAL_HEADERS, asks_stream
from askonce.core.keys import Form
from askonce.core.rules import Ignored, Rules
from askonce.events import Events
from askonce.http.credentials import BOUND, Header, binds, fingerprint, rotates
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

CALLERS = 1024  # credentials of which it is known whether they are replaced every so often
UNKNOWN = 1024  # headers that are named as unclassified

Counts = tuple[tuple[str, str], ...]

FRESH = (
    "the request header %s counts in the key, and it was new each of the last %d times that the same request came"
    " again: none of them could be answered by the cache. %s"
)
STRANGE = (
    "the request header %s is none of askonce's, so the request went upstream without the cache: the header may have"
    " been meant to say whose the answer is. There are %s"
)
NEEDED = (
    "a credential that is replaced every so often (a JWT, OAuth, a signature, a ticket, a client certificate) names"
    " nobody for long, so these calls are not cached: say whose answers they are, as in http_client(tenant='billing')"
)


class Callers:
    """Who asks, by what requests carry. `fleeting`: whether cookies beside a tenant count, and where connections go."""

    def __init__(self, events: Events, rules: Rules, *, fleeting: bool = True) -> None:
        self._events = events
        self._fleeting = fleeting
        self._ignored: Container[str] = Ignored(rules.ignore_headers) if rules.ignore_headers else ()
        self._named: set[str] = set()
        self._fresh = Freshness()
        self._bound = False  # a connection was signed in, and its later requests need not say by whom
        self._rotating: dict[str, bool] = {}

    def read_headers(self, sent: SentRequest) -> RequestHeaders:
        """What the headers of a request carry."""
        return read_headers(sent.headers, self._ignored)

    def strange(self, ours: Mapping[str, str]) -> bool:
        """Whether a header speaks to askonce, and says what askonce does not know."""
        unknown = sorted(ours.keys() - OURS)
        for name in unknown:
            self._events.warn_once(name, STRANGE, name, ", ".join(OURS))
        return bool(unknown)

    def beside(self, sent: SentRequest, carries: RequestHeaders, target: Target) -> RequestHeaders:
        """What is carried, with what stands beside the headers: in the URL, in the connection, in another host."""
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
        """The headers in a key; `tenant`: one is named, and stands for the credential."""
        if carries.unknown or carries.cookies:
            self._name(*carries.unknown, *map(name_of, _lines(carries.cookies)))
        counts = carries.counts
        if form == "s":
            counts = tuple(pair for pair in counts if pair[0] != "accept" or not asks_stream(pair[1]))
        if carries.cookies and tenant and self._fleeting:
            # A tenant stands for a credential. A cookie may be one, or the session of one of the tenant's many users.
            counts += (("cookie", fingerprint(carries.cookies)),)
        return counts

    def _name(self, *unknown: str) -> None:
        for name in unknown:
            if name not in self._named and len(self._named) < UNKNOWN:
                self._named.add(name)
                self._events.emit("unclassified", detail=name)

    def note(self, sent: SentRequest, carries: RequestHeaders, counts: Counts, *, tenant: bool) -> None:
        """A request is about to be looked up: tell of a header that is new whenever it comes."""
        secrets = carries.cookies if tenant else carries.secrets
        for name in self._fresh.note((sent.url, sent.body), (counts, secrets), lambda: _named(counts, secrets)):
            self._events.emit("fresh-header", detail=name)
            self._events.warn_once(f"fresh {name}", FRESH, name, AGAIN, _remedy(name))

    def needs_tenant(self, who: str, secrets: bytes) -> bool:
        """Whether a credential names nobody for long; `who`: its fingerprint."""
        # Known by fingerprint: a search through the credential costs as much as all else that is done with it.
        found = self._rotating.get(who)
        if found is None:
            if len(self._rotating) >= CALLERS:
                self._rotating.clear()
            found = self._rotating[who] = rotates(secrets)
        if found:
            self._events.warn_once("tenant-needed", NEEDED)
        return found

    def met(self, sent: Sequence[Header]) -> None:
        """A request went upstream; note whether it signed in the connection on which others may follow."""
        self._bound = self._bound or binds(sent)


def _lines(secrets: bytes) -> list[bytes]:
    return secrets.split(b"\n") if secrets else []


def _named(counts: Counts, secrets: bytes) -> Iterator[tuple[str, str | bytes]]:
    """All that tells requests apart beside their URL and body, by name."""
    yield from counts
    for one in _lines(secrets):
        yield name_of(one), one


def _remedy(name: str) -> str:
    if name in CREDENTIAL_HEADERS:
        return "If it names nobody for long, say whose answers they are, as in http_client(tenant='billing')"
    return f"If no answer depends on it: ignore_headers=[{name!r}]"
