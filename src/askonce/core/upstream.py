"""Which failures are trouble of the upstream (an old answer is better than none), and which are its answer.

5xx, 429, timeouts and failed connections are trouble. 400, 401, 403 and 404 answer this very request: an old answer in
their place would hide a revoked key or a removed model. SDK exceptions are recognised by their status code or class
name, because no SDK is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping

from askonce.core.providers.patterns import pattern

_CALLED = (("timeout", "upstream-timeout"), ("connect", "upstream-unreachable"), ("remoteprotocol", "upstream-broken"))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception carries, by itself or in its response."""
    for holder in (error, getattr(error, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int) and 100 <= status <= 599:
                return status
    return None


def status_trouble(status: int) -> str:
    """``upstream-503`` for a status that means trouble, "" for one that is an answer."""
    return f"upstream-{status}" if status >= 500 or status in {408, 429} else ""


def everybodys(status: int) -> bool:
    """Whether a refusal does not depend on the question, but on who asks, how often, or an upstream in trouble."""
    return status in {401, 403, 408, 429} or status >= 500


_MOMENTS = pattern(
    "overload|rate.?limit|quota|exhausted|server.?error|internal|api_error|unavailable|timeout|timed.?out|capacity|"
    "auth|permission|billing|insufficient|bad.?gateway|upstream|too.?many"
)


def of_the_moment(answer: object) -> bool:
    """Whether an answer, or an event of one, is an error that does not depend on the question."""
    if not isinstance(answer, Mapping):
        return False
    held = answer.get("response")
    error = answer.get("error") or (held.get("error") if isinstance(held, Mapping) else None)
    if not isinstance(error, Mapping):
        error = answer if answer.get("type") == "error" else {"type": error}
    words = [error.get(name) for name in ("type", "code", "status")]
    if any(everybodys(int(str(word))) for word in words if str(word).isdecimal()):
        return True
    return any(_MOMENTS.search(word.lower()) for word in words if isinstance(word, str))


def trouble(error: BaseException) -> str:
    """The status detail of an upstream in trouble; "" if the error is an answer, or a bug of the caller."""
    status = status_of(error)
    if status is not None:
        return status_trouble(status)
    if isinstance(error, TimeoutError):
        return "upstream-timeout"
    if isinstance(error, ConnectionError):
        return "upstream-unreachable"
    names = " ".join(kind.__name__.lower() for kind in type(error).__mro__[:-2])
    return next((word for part, word in _CALLED if part in names), "")


def retry_after(headers: Mapping[str, str] | None) -> int:
    """The wait that an upstream asks for, ms; 0 if none (a date is not read: clocks differ)."""
    if not headers:
        return 0
    for name, unit in (("retry-after-ms", 1), ("retry-after", 1000)):
        try:
            return max(0, int(float(headers.get(name, "")) * unit))
        except (TypeError, ValueError, OverflowError):
            continue
    return 0


def hint_of(error: BaseException) -> int:
    """The retry-after of the response that an exception carries, ms."""
    headers = getattr(getattr(error, "response", None), "headers", None)
    return retry_after(headers) if hasattr(headers, "get") else 0
