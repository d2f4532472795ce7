"""What the options of a connection to Redis may be: found when a cache is made, and not at its first connection.

redis-py takes almost any value of an option, and finds what is wrong with it when it connects: then it is trouble of
the store, which no lookup raises. In a URL it drops an empty option, uses the first of two, and takes "off" for true.
"""

from __future__ import annotations

import errno
import os
import ssl
import stat
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import redis.connection as threads

from askonce.core import wording
from askonce.core.urls import without_password
from askonce.errors import ConfigError

_SECRETS = frozenset({"password", "username", "ssl_password", "ssl_ca_data"})
_EXAMPLES: dict[str, Any] = {
    "socket_timeout": 0.2,
    "socket_connect_timeout": 1.0,
    "db": 0,
    "port": 6379,
    "socket_read_size": 65536,
    "socket_type": 0,
    "max_connections": 10,
}
_YES, _NO = ("true", "t", "yes", "y", "1"), ("false", "f", "no", "n", "0")


# --- of a URL ----------------------------------------------------------------------------------------------------


def check_query(query: str, url: str, before: str = "") -> None:
    """ConfigError for options in a URL that are not as redis-py reads them.

    `url`: what the user wrote; `before`: what stands before their names there.
    """
    seen = set()
    for name, value in parse_qsl(query, keep_blank_values=True):
        told = f"{before}{name}" if name in _CHECKS or name in threads.URL_QUERY_ARGUMENT_PARSERS else "an option"
        if name in seen:
            raise ConfigError(f"{shown(url)}: {told} is given twice: write it once")
        if not value.strip():
            raise ConfigError(f"{shown(url)}: {told} is empty: leave it out, or write its value")
        if name in _POOLS:
            raise ConfigError(
                f"{shown(url)}: {name} is an option of redis-py's pools, which are not used: {_POOLS[name]}"
            )
        seen.add(name)
        _check_text(name, value, f"{shown(url)}: {told}")


_POOLS = {"timeout": "write socket_timeout=0.2"}
_POOLS |= dict.fromkeys(("connection_class", "queue_class", "pool_class", "connection_pool"), "leave it out")


def _check_text(name: str, value: str, told: str) -> None:
    """ConfigError for a text that redis-py cannot read as what it is to be, or would read as something else."""
    parse: Any = threads.URL_QUERY_ARGUMENT_PARSERS.get(name)
    if _CHECKS.get(name) is _flag and value.lower() not in _YES + _NO:
        raise ConfigError(f"{told} is neither true nor false: write it as {name}=true")
    try:
        if parse is not None:
            parse(value)
    except (TypeError, ValueError):
        kind = "a whole number" if parse is int else "a number" if parse is float else "a value that redis-py takes"
        raise ConfigError(f"{told} is not {kind}: write it as {name}={_EXAMPLES.get(name, 1)}") from None


def typed(found: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a URL with their types: redis-py leaves some as texts, and any text is true."""
    return {
        name: value.lower() in _YES if isinstance(value, str) and _CHECKS.get(name) is _flag else value
        for name, value in found.items()
    }


# --- of a URL, or of the code ------------------------------------------------------------------------------------


def check(options: Mapping[str, Any]) -> None:
    """ConfigError for a value that no connection could be made with. None stands for the default."""
    for name, value in options.items():
        if value is not None and (is_one := _CHECKS.get(name)) is not None:
            is_one(name, value)


def _seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 2**31:
        raise ConfigError(
            f"{name}={wording.shown(value)} is not a number of seconds above 0: write {name}={_EXAMPLES[name]}"
        )


def _between(least: int, most: int = 2**31) -> Callable[[str, object], None]:
    def check_whole(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ConfigError(
                f"{name}={wording.shown(value)} is not a whole number from {least} to {most}: write"
                f" {name}={_EXAMPLES[name]}"
            )

    return check_whole


def _flag(name: str, value: object) -> None:
    wording.flag(name, value)


def _is(kinds: Any, right: str) -> Callable[[str, object], None]:
    def check_kind(name: str, value: object) -> None:
        if not isinstance(value, kinds):
            told = f"a {type(value).__name__}" if name in _SECRETS else wording.shown(value)
            raise ConfigError(f"{name}= is {told}: {right.format(name=name)}")

    return check_kind


def _client_name(name: str, value: object) -> None:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ConfigError(f"{name}={wording.shown(value)}: write a name without spaces, {name}='askonce'")


def _of_sockets(name: str, value: object) -> None:
    if not isinstance(value, Mapping) or not all(
        isinstance(key, int) and isinstance(one, int | bytes) for key, one in value.items()
    ):
        raise ConfigError(f"{name}={wording.shown(value)}: write a dict, such as {{socket.TCP_KEEPIDLE: 60}}")


def _has(method: str, right: str) -> Callable[[str, object], None]:
    def check_method(name: str, value: object) -> None:
        if not callable(getattr(value, method, None)):
            raise ConfigError(f"{name}={wording.shown(value)}: {right}")

    return check_method


def _version(name: str, value: object) -> None:
    try:
        known = isinstance(value, int) and not isinstance(value, bool) and ssl.TLSVersion(value) is not None
    except ValueError:
        known = False
    if not known:
        raise ConfigError(
            f"{name}={wording.shown(value)} is no version of TLS: write ssl.TLSVersion.TLSv1_2, or {name}=771 in a URL"
        )


def _required(name: str, value: object) -> None:
    if not wording.one_of(value, ("none", "optional", "required")) and not isinstance(value, ssl.VerifyMode):
        raise ConfigError(f"{name}={wording.shown(value)}: write 'required', 'optional' or 'none'")


def _verify_flags(name: str, value: object) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(one, ssl.VerifyFlags) for one in value):
        raise ConfigError(f"{name}={wording.shown(value)}: write a list, such as [ssl.VerifyFlags.VERIFY_X509_STRICT]")


_TEXT = "write it as text, {name}='...'"
_FILE = _is((str, os.PathLike), "write the path of a file of certificates or keys in PEM")
_FLAGS = ("socket_keepalive", "ssl", "ssl_check_hostname", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled")
_CHECKS: dict[str, Callable[[str, object], None]] = {
    **dict.fromkeys(("socket_timeout", "socket_connect_timeout"), _seconds),
    **dict.fromkeys(("db", "socket_type"), _between(0)),
    **dict.fromkeys(("socket_read_size", "max_connections"), _between(1)),
    "port": _between(1, 65535),
    **dict.fromkeys(_FLAGS, _flag),
    **dict.fromkeys(("username", "ssl_ciphers", "ssl_ocsp_expected_cert"), _is(str, _TEXT)),
    **dict.fromkeys(("password", "ssl_password", "ssl_ca_data"), _is((str, bytes), _TEXT)),
    **dict.fromkeys(("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_ca_path"), _FILE),
    "client_name": _client_name,
    "credential_provider": _has("get_credentials", "give a redis.CredentialProvider"),
    "redis_connect_func": _has("__call__", "give a function of the connection"),
    "socket_keepalive_options": _of_sockets,
    "ssl_cert_reqs": _required,
    "ssl_min_version": _version,
    **dict.fromkeys(("ssl_include_verify_flags", "ssl_exclude_verify_flags"), _verify_flags),
}


# --- TLS ---------------------------------------------------------------------------------------------------------


def check_tls(options: Mapping[str, Any]) -> None:
    """ConfigError if certificates and keys cannot be read as redis-py reads them at each connection."""
    given = {name: value for name, value in options.items() if name.startswith("ssl_") and value}
    if not given:
        return
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ConfigError("ssl_keyfile= without a certificate: write ssl_certfile=, the file of its certificate, too")
    for name in _FILES & given.keys():
        _check_readable(name, given[name])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name, load in _LOADS.items():
        if name in given:
            try:
                load(context, given)
            except (ssl.SSLError, ValueError, OSError) as error:
                raise ConfigError(f"{name}= cannot be used ({_reason(error)}): {_RIGHT.get(name, _PEM)}") from None


def _load_certificate(context: ssl.SSLContext, given: Mapping[str, Any]) -> None:
    # OpenSSL would ask for a password that is missing at the terminal.
    password = given.get("ssl_password") or (lambda: "")
    context.load_cert_chain(given["ssl_certfile"], given.get("ssl_keyfile"), password)


_LOADS: dict[str, Callable[[ssl.SSLContext, Mapping[str, Any]], object]] = {
    "ssl_certfile": _load_certificate,
    "ssl_ca_certs": lambda context, given: context.load_verify_locations(cafile=given["ssl_ca_certs"]),
    "ssl_ca_path": lambda context, given: context.load_verify_locations(capath=given["ssl_ca_path"]),
    "ssl_ca_data": lambda context, given: context.load_verify_locations(cadata=given["ssl_ca_data"]),
    "ssl_ciphers": lambda context, given: context.set_ciphers(given["ssl_ciphers"]),
}
_FILES = {"ssl_certfile", "ssl_keyfile", "ssl_ca_certs", "ssl_ca_path"}


def _check_readable(name: str, path: Any) -> None:
    """ConfigError if a path names no file, or no folder, that this process may read."""
    what, is_one = ("folder", stat.S_ISDIR) if name == "ssl_ca_path" else ("file", stat.S_ISREG)
    try:
        why = "" if is_one(os.stat(path).st_mode) else f"it is no {what}"  # noqa: PTH116 - a text or a path
        if not why and not os.access(path, os.R_OK):
            why = os.strerror(errno.EACCES)
    except (OSError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error)
    if why:
        raise ConfigError(
            f"{name}={wording.whole(os.fspath(path))} cannot be read ({why}): name a {what} of certificates or keys"
            " in PEM"
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error).replace("_", " ").lower()


_PEM = "give certificates in PEM"
_RIGHT = {
    "ssl_certfile": "give a certificate in PEM, its own ssl_keyfile=, and ssl_password= if that is encrypted",
    "ssl_ciphers": "write names of OpenSSL's ciphers, such as 'ECDHE+AESGCM'",
}


def shown(url: str) -> str:
    """A URL for a message."""
    return repr(without_password(url))
