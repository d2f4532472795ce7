"""Clients for SDKs: the module's own, made as the SDKs make theirs, with a transport of askonce before each of its own.

A client that is given a transport reads no proxies from the environment. So it is made without one, and what it made
for itself is wrapped in place: its pool, and the pools of its proxies. A user's transport is wrapped too and keeps its
settings.
"""

from __future__ import annotations

import importlib
import inspect
import socket
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import ModuleType
from typing import Any

from askonce.core.spelling import meant
from askonce.core.wording import shown
from askonce.engine.batch import BatchEngine
from askonce.errors import ConfigError, UsageError
from askonce.http.connection import given_beside
from askonce.http.inner import Inner
from askonce.http.received import subclass
from askonce.http.rules import ClientRules
from askonce.http.transports import MODULES, Blocking, Suspending, whose

IDLE, BETWEEN, PROBES = 60, 60, 5  # s, s, count: what Anthropic's SDK sets for silent connections


def client(
    rules: ClientRules,
    engine: Callable[[], BatchEngine],
    module: Any,
    inner: Any,
    options: dict[str, Any],
    *,
    asynchronous: bool,
) -> Any:
    """A client of `module` whose requests are looked up first; `options` are the client's own."""
    found = module_of(module)
    _check_inner("inner", inner, found, asynchronous=asynchronous)
    _check_transports(options, found, asynchronous=asynchronous)
    if inner is not None:
        if options.get("transport") is not None:
            raise UsageError("inner= and transport= are the same: give one of them")
        options = {**options, "transport": inner}
    kind = found.AsyncClient if asynchronous else found.Client
    _check_options(kind, options)
    make = partial(kind, **{**_as_sdks_do(found), **options})
    given = [options.get("transport"), *(options.get("mounts") or {}).values()]

    def wrap(own: Any, remake: Callable[[], Any], beside: Sequence[Any] = ()) -> Any:
        if own is None:
            return None
        brought = any(own is one for one in given)
        inner = Inner(own) if brought else Inner(_kept_alive(own), lambda: _kept_alive(remake()))
        return _transport_type(found, asynchronous=asynchronous)(rules, engine, found, inner, beside)

    made = make()
    try:
        _wrap_all(made, make, wrap, given_beside(options))
    except AttributeError as missing:
        raise ConfigError(
            f"this version of {found.__name__} is not supported ({missing}): pass cache.transport() to its client"
        ) from missing
    return made


def _wrap_all(made: Any, make: Callable[[], Any], wrap: Callable[..., Any], beside: Sequence[Any]) -> None:
    """Replace a client's transports by what `wrap` makes of them."""
    # Private names, the same since httpx 0.13; there are no public ones.
    mounts = made._mounts  # noqa: SLF001
    made._transport = wrap(made._transport, lambda: make()._transport, beside)  # noqa: SLF001
    made._mounts = {pattern: wrap(own, partial(_mounted, make, pattern)) for pattern, own in mounts.items()}  # noqa: SLF001


def transport(
    rules: ClientRules, engine: Callable[[], BatchEngine], module: Any, inner: Any, *, asynchronous: bool
) -> Any:
    """A transport of `module` whose requests are looked up first."""
    found = module_of(module)
    _check_inner("inner", inner, found, asynchronous=asynchronous)
    kind = found.AsyncHTTPTransport if asynchronous else found.HTTPTransport
    make = partial(kind, limits=_as_sdks_do(found)["limits"], socket_options=keep_alive())
    behind = Inner(make(), make) if inner is None else Inner(inner)
    return _transport_type(found, asynchronous=asynchronous)(rules, engine, found, behind)


def _check_inner(name: str, inner: Any, module: Any, *, asynchronous: bool) -> None:
    """ConfigError for what is no transport of this kind, or one of another module, which fails at the first request."""
    if inner is None:
        return
    method, kind = (
        ("handle_async_request", "AsyncHTTPTransport") if asynchronous else ("handle_request", "HTTPTransport")
    )
    right = f"{name}={module.__name__}.{kind}(...)"
    if isinstance(inner, type) or not hasattr(inner, method):
        raise ConfigError(f"{name}={shown(inner)} is no transport with {method}: write {right}")
    base = kind.replace("HTTP", "Base")
    if not isinstance(inner, getattr(module, base)) and (theirs := whose(inner, base)):
        raise ConfigError(
            f"{name}={shown(inner)} is a transport of {theirs}, and the client is one of {module.__name__}: write"
            f" module={theirs}, or {right}"
        )


def _check_transports(options: Mapping[str, Any], module: Any, *, asynchronous: bool) -> None:
    """The same for the transports among a client's own options."""
    _check_inner("transport", options.get("transport"), module, asynchronous=asynchronous)
    mounts = {} if options.get("mounts") is None else options["mounts"]
    if not isinstance(mounts, Mapping):
        kind = f"{module.__name__}.{'Async' if asynchronous else ''}HTTPTransport()"
        raise ConfigError(f"mounts={shown(mounts)} is no dict: write mounts={{'https://': {kind}}}")
    for pattern, one in mounts.items():
        _check_inner(f"mounts[{shown(pattern)}]", one, module, asynchronous=asynchronous)


def _check_options(kind: type, options: Mapping[str, Any]) -> None:
    """UsageError for what is neither a keyword of askonce nor of the client."""
    known = inspect.signature(kind).parameters
    for name in options:
        if name not in known:
            right = meant(name, known)
            write = (
                f"write {right}="
                if right
                else f"neither askonce nor {kind.__module__.partition('.')[0]}.{kind.__name__} has it"
            )
            raise UsageError(f"{name}=: unknown; {write}")


def _mounted(make: Callable[[], Any], pattern: Any) -> Any:
    """What another client with these options mounts at a pattern; KeyError if the environment has no proxy for it."""
    return make()._mounts[pattern]  # noqa: SLF001


def _as_sdks_do(module: Any) -> dict[str, Any]:
    """The options that OpenAI's and Anthropic's SDKs give the clients they make."""
    return {
        "timeout": module.Timeout(600.0, connect=5.0),
        "limits": module.Limits(max_connections=1000, max_keepalive_connections=100),
        "follow_redirects": True,
    }


def keep_alive() -> list[tuple[int, int, int]]:
    """Socket options of TCP keep-alive, as far as this system has them.

    A call that thinks for minutes sends nothing meanwhile, and middle boxes drop silent connections.
    """
    found = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    # macOS calls the first one TCP_KEEPALIVE.
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"
    for name, value in ((idle, IDLE), ("TCP_KEEPINTVL", BETWEEN), ("TCP_KEEPCNT", PROBES)):
        if hasattr(socket, name):
            found.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return found


def _kept_alive(own: Any) -> Any:
    """A transport that its client made, with these socket options: a client has no argument for them."""
    pool: Any = getattr(own, "_pool", None)
    if hasattr(pool, "_socket_options"):
        pool._socket_options = keep_alive()  # noqa: SLF001
    return own


def module_of(module: Any) -> Any:
    """httpx2 or httpx: the given module or its name, else the installed one."""
    if isinstance(module, ModuleType) and hasattr(module, "AsyncBaseTransport"):
        return module
    if module is not None and not (isinstance(module, str) and module in MODULES):
        raise ConfigError(f"module={shown(module)}: write module=httpx or module=httpx2")
    for name in MODULES if module is None else (module,):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ConfigError(f"{module or 'httpx2'} is not installed: pip install 'askonce[http]'")


def _transport_type(module: Any, *, asynchronous: bool) -> Any:
    ours, theirs = (Suspending, module.AsyncBaseTransport) if asynchronous else (Blocking, module.BaseTransport)
    return subclass("AskonceTransport", ours, theirs)
