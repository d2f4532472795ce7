"""The errors of a call upstream, under the names that httpx has for them.

A failed call is shared with its followers by the name of its error. Followers may be clients of httpx in other
processes, and the gateway may follow theirs, so the names are the same.
"""

from __future__ import annotations


class RequestError(Exception):
    """A call that brought no whole answer."""

    def __init__(self, message: str, *, request: object = None) -> None:
        super().__init__(message)
        self.request = request


class TransportError(RequestError):
    """The connection failed."""


class TimeoutException(TransportError):
    """Something took longer than its limit."""


class ConnectTimeout(TimeoutException):
    """No connection within its limit."""


class ReadTimeout(TimeoutException):
    """Upstream sent nothing within its limit."""


class WriteTimeout(TimeoutException):
    """Upstream read nothing within its limit."""


class PoolTimeout(TimeoutException):
    """No free connection within its limit."""


class NetworkError(TransportError):
    """The network failed."""


class ConnectError(NetworkError):
    """No connection to upstream: its name is unknown, it refuses, or its certificate does not verify."""


class ReadError(NetworkError):
    """The connection broke while the answer came."""


class WriteError(NetworkError):
    """The connection broke while the request was sent."""


class CloseError(NetworkError):
    """A connection could not be closed."""


class ProxyError(TransportError):
    """The proxy on the way refused."""


class UnsupportedProtocol(TransportError):
    """A URL of another scheme."""


class ProtocolError(TransportError):
    """One side did not speak HTTP."""


class LocalProtocolError(ProtocolError):
    """This side did not."""


class RemoteProtocolError(ProtocolError):
    """Upstream did not, or closed the connection early."""


class DecodingError(RequestError):
    """The body cannot be decoded."""


class TooManyRedirects(RequestError):
    """Raised by clients of httpx; redirects are not followed here."""
