"""URLs of stores without their secrets, fit to be shown."""

from __future__ import annotations

from askonce.core.providers.patterns import pattern


def without_password(url: str) -> str:
    """A URL fit to be shown: everything in it that is not known to be harmless is left out.

    Places where passwords usually stand are not enough: an unquoted password may hold any sign, and options that carry
    one have many names.
    """
    scheme, is_url, rest = url.partition("://")
    if not is_url:
        head, at, place = url.rpartition("@")
        return f"***@{place}" if at else url
    head, at, place = rest.rpartition("@")
    if any(sign in head for sign in "?#"):
        return f"{scheme}://***"  # an unquoted password, or an @ in an option: the host cannot be found
    user = f"{_user(head)}@" if at else ""
    path, mark, options = place.partition("#")[0].partition("?")
    return f"{scheme}://{user}{path}{mark}{'&'.join(map(_option, options.split('&')))}"


def without_prefix(address: str) -> str:
    """A store's address as people know it."""
    return address.partition("#")[0]


def _user(text: str) -> str:
    name, colon, _ = text.partition(":")
    return f"{name}:***" if colon and _HARMLESS_NAME.fullmatch(name) else "***"


def _option(text: str) -> str:
    name, equals, _ = text.partition("=")
    if name in _HARMLESS_OPTIONS:
        return text
    # An unknown name may be the rest of a password with an & in it.
    return f"{name}{equals}***" if name in _SECRET_OPTIONS else "***" if text else ""


_HARMLESS_NAME = pattern(r"[\w.-]*")


_HARMLESS_OPTIONS = frozenset(
    {
        *("db", "protocol", "socket_timeout", "socket_connect_timeout", "socket_keepalive", "max_connections"),
        *("ssl_cert_reqs", "ssl_check_hostname", "ssl_ca_certs", "health_check_interval", "client_name"),
    }
)


_SECRET_OPTIONS = frozenset({"password", "username", "ssl_password", "ssl_keyfile", "ssl_certfile"})
