"""Who may ask the admin API: programs that show the token, over a connection that may reach it.

The token comes in ``Authorization: Bearer``, which no browser sends by itself, so no page of another site can use it.
What a browser says of such a page is checked all the same. Every path is refused in the same words to whoever has no
token, also one that does not exist.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from askonce.errors import ConfigError
from askonce.gateway.admin.problems import Refused
from askonce.gateway.settings import token_problem

CHALLENGE = {"www-authenticate": 'Bearer realm="askonce"'}
UNKNOWN = "send the admin token as `Authorization: Bearer TOKEN`; the gateway has it from admin.token or its file"
WRONG = "this is not the admin token: see admin.token of the gateway's configuration, or its file"
SAFE = frozenset({"GET", "HEAD"})
OURS = frozenset({"same-origin", "none"})  # of Sec-Fetch-Site; `none`: the user typed the address
FOREIGN = "this request comes from a page of another site: send it from a program, without Origin"

Session = Callable[[Request], bool]


def no_session(_request: Request) -> bool:
    """No browser has shown the token."""
    return False


class Access:
    """The check of one token. `session`: whether a browser has shown the token to the page; it may then read."""

    def __init__(self, token: str, session: Session = no_session) -> None:
        if problem := token_problem(token) or ("" if token else "no token: set admin.token"):
            raise ConfigError(f"the admin API has {problem}")
        self._digest = digest_of(token)
        self._session = session

    def check(self, request: Request) -> None:
        """Refused, unless the request may be answered."""
        told = request.headers.get("authorization", "")
        if foreign(request.headers):
            raise Refused(403, FOREIGN)
        if not told and request.method in SAFE and self._session(request):
            return
        kind, _, token = told.partition(" ")
        if kind.lower() != "bearer":
            raise Refused(401, UNKNOWN, CHALLENGE)
        if not is_token(token.strip(), self._digest):
            raise Refused(401, WRONG, {"www-authenticate": f'{CHALLENGE["www-authenticate"]}, error="invalid_token"'})


def foreign(headers: Headers) -> bool:
    """Whether a browser sends this for a page of another origin. Programs say nothing of the kind."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in OURS:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


def is_token(told: str, digest: bytes) -> bool:
    """Whether this is the token of a digest; the time that this takes does not depend on how much of it is right."""
    # Digests, so that the time does not tell how long the token is.
    return hmac.compare_digest(digest_of(told), digest)


def digest_of(token: str) -> bytes:
    """The digest of a token, for `is_token`."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
