"""Who may see a page: a browser that has shown the admin token once, and holds a cookie that proves it.

The cookie holds no token: it is a date, signed with a key that is derived from the token. Every worker that knows the
token can check it, and a new token ends all sessions. A form that changes something carries a second signature, made
of the cookie, and must come from a page of this origin.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from askonce.gateway.admin.access import digest_of, foreign, is_token

COOKIE = "askonce_session"
LASTS = 12 * 3600  # s
FIELD = "csrf"


class Sessions:
    """The sessions of one token. `now`: s since 1970."""

    def __init__(self, token: str, now: Callable[[], float]) -> None:
        self._digest = digest_of(token)
        self._key = hmac.digest(token.encode(), b"askonce page session", "sha256")
        self._now = now

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return is_token(token, self._digest)

    def opened(self, request: Request) -> bool:
        """Whether a request brings the cookie of a session that still lasts."""
        ends, _, signature = request.cookies.get(COOKIE, "").partition(".")
        signed = hmac.compare_digest(signature.encode(), self._signature(f"session {ends}").encode())
        return signed and int(ends) > self._now()

    def begin(self, request: Request, response: Response) -> None:
        """Give a browser the cookie of a new session. Scripts cannot read it, and other sites cannot send it along."""
        ends = f"{self._now() + LASTS:.0f}"
        response.set_cookie(
            COOKIE,
            f"{ends}.{self._signature(f'session {ends}')}",
            max_age=LASTS,
            path=path_of(request),
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="lax",  # not strict: a link to the page in a chat would ask for the token once more
        )

    def end(self, request: Request, response: Response) -> None:
        """Take the cookie away."""
        response.delete_cookie(COOKIE, path=path_of(request))

    def mark(self, request: Request) -> str:
        """What a form of this session must send back."""
        return self._signature(f"form {request.cookies.get(COOKIE, '')}")

    def ours(self, request: Request, mark: str) -> bool:
        """Whether a form comes from a page of this session, and not from another site."""
        return not foreign(request.headers) and hmac.compare_digest(mark.encode(), self.mark(request).encode())

    def _signature(self, told: str) -> str:
        return hmac.digest(self._key, told.encode("utf-8", "surrogatepass"), "sha256").hex()


def path_of(request: Request) -> str:
    """Where the page is mounted, with a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/") + "/"


def new_token() -> str:
    """A random token."""
    return secrets.token_urlsafe(24)
