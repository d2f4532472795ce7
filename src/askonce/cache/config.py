"""Where the cache is, unless the call says so: the chain of defaults, and the environment.

The URL that is given, else `configure`, else ``$ASKONCE_URL``, else ``$REDIS_URL``, else an SQLite file in the user's
cache folder, or memory if there can be no folder. ``$ASKONCE_PREFIX``, ``$ASKONCE_MODE``, ``$ASKONCE_NEAR``,
``$ASKONCE_COMPRESS``, ``$ASKONCE_KEYS`` and ``$ASKONCE_PRICES`` let operators change the other defaults without
changing code. They hold for what the code leaves unsaid: whatever it says goes before them, also False, 0 and "".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, get_args

from askonce.cache.near import near_for, size_of
from askonce.core.providers.named_tuples import NamedTuple
from askonce.core.spelling import meant
from askonce.core.urls import without_password
from askonce.core.wording import as_text, encodable, one_of, shown, whole
from askonce.errors import ConfigError
from askonce.events import log

if TYPE_CHECKING:
    from pathlib import Path

MEMORY = "memory://askonce"  # a name, so that all default caches of a process share one
ModeWord = Literal["on", "off", "refresh", "only-if-cached"]
MODES: tuple[ModeWord, ...] = get_args(ModeWord)

VARIABLES = {
    "url": "ASKONCE_URL",
    "prefix": "ASKONCE_PREFIX",
    "mode": "ASKONCE_MODE",
    "near": "ASKONCE_NEAR",
    "compress": "ASKONCE_COMPRESS",
    "encryption": "ASKONCE_KEYS",
    "prices": "ASKONCE_PRICES",
}

_configured: dict[str, Any] = {}
_warned: set[str] = set()


def configure(**said: Any) -> None:
    """Set the defaults of caches made from now on; None leaves a default unchanged. ConfigError for a wrong value."""
    said = {name: value for name, value in said.items() if value is not None}
    for name, check in _CHECKS.items():
        if name in said:
            check(said[name])
    _configured.update(said)


def setting(name: str, given: Any = None) -> Any:
    """What the code says: the argument, else the default that `configure` has set; None if it says nothing.

    Only None says nothing, so no setting is found with `or`.
    """
    return _configured.get(name) if given is None else given


def found(name: str, given: Any = None) -> Any:
    """A setting by the code, else by the environment; None if nothing says it. An empty variable says nothing."""
    said = setting(name, given)
    return variable(VARIABLES[name]) if said is None else said


def variable(name: str) -> str | None:
    """What a variable of the environment says, without the spaces around it; None if that is nothing."""
    return os.environ.get(name, "").strip() or None


BEGINS = "ASKONCE_"
# Those of commands, and of a gateway (gateway.settings).
_OF_COMMANDS = (
    *("TOKEN", "CONFIG", "UPSTREAM", "HOST", "PORT", "WORKERS", "TENANTS", "LOG", "LOG_REQUESTS"),
    *("ADMIN_TOKEN", "ADMIN_TOKEN_FILE", "ADMIN_BIND"),
)
KNOWN = frozenset({*(name.removeprefix(BEGINS) for name in VARIABLES.values()), *_OF_COMMANDS})


def misspelt(options: Collection[str]) -> dict[str, str]:
    """The misspelt variables of the environment, which nothing reads, each with what to write instead.

    `options`: those of a cache, which are no variables.
    """
    found = {}
    for name in os.environ:
        if name.startswith(BEGINS) and (word := name[len(BEGINS) :]) not in KNOWN:
            if (right := meant(word, KNOWN)) is not None:
                found[name] = f"${BEGINS}{right}"
            elif word.lower() in options:
                found[name] = f"Cache({word.lower()}=...)"
    return found


def warn_of_misspelt(options: Collection[str]) -> None:
    """Warn of each misspelt variable, once in a process: it may be another program's, so it is no error."""
    for name, right in misspelt(options).items():
        if name not in _warned:
            _warned.add(name)
            log.warning("askonce does not read $%s, which is set: write %s", name, right)


def giver(name: str, given: Any = None) -> str:
    """Where a setting was given, as errors name it: ``mode=``, or ``$ASKONCE_MODE=``."""
    by_code = setting(name, given) is not None or not variable(VARIABLES[name])
    return f"{name}=" if by_code else f"${VARIABLES[name]}="


@contextmanager
def naming(variable: str) -> Iterator[None]:
    """Name the variable whose value is wrong in an error that does not know where it was given."""
    try:
        yield
    except ConfigError as wrong:
        if not variable or str(wrong).startswith("$"):
            raise
        raise ConfigError(f"${variable}: {wrong}") from None


def url_variable(url: str | None) -> str:
    """The variable that names the store's URL; "" if the code does, or nothing."""
    if setting("url", url) is not None:
        return ""
    return next((name for name in ("ASKONCE_URL", "REDIS_URL") if variable(name)), "")


class Defaults(NamedTuple):
    """The default place of a cache, its default mode, its near cache's size, and all else that `configure` said."""

    url: str
    prefix: str
    mode: ModeWord
    near: int
    compress: object
    encryption: object
    prices: object
    others: Mapping[str, object]


def defaults(*, lenient: bool = False) -> Defaults:
    """The current defaults; ConfigError if they are invalid. If `lenient`, the URL is "" in that case."""
    try:
        url = find_url(None)
    except ConfigError:
        if not lenient:
            raise
        url = ""
    near = near_for(url, None, default_near(), giver("near"))
    sealed = (found("compress"), found("encryption"))
    others = {name: said for name, said in _configured.items() if name not in VARIABLES}
    return Defaults(url, find_prefix(None), find_mode(None), near, *sealed, found("prices"), others)


def find_url(url: str | None) -> str:
    """The store's URL, by the chain of defaults."""
    said = found("url", url)
    if said is not None:
        with naming(url_variable(url)):
            return check_url(said)
    redis = variable("REDIS_URL")
    if redis:
        if redis not in _warned:
            _warned.add(redis)
            log.warning("askonce uses $REDIS_URL: %s (set ASKONCE_URL to use another store)", without_password(redis))
        return redis
    folder = cache_folder()
    if folder is not None:
        return f"sqlite:///{folder / 'askonce.db'}"
    if MEMORY not in _warned:
        _warned.add(MEMORY)
        log.warning(
            "askonce finds no cache folder that this user may write: it keeps the answers in the memory of this process"
            " and loses them when the process ends; set ASKONCE_URL, as in ASKONCE_URL=sqlite:////var/tmp/askonce.db"
        )
    return MEMORY


def find_prefix(prefix: str | None) -> str:
    """The prefix: a new one makes every old key unreachable."""
    said = found("prefix", prefix)
    if said is not None and not isinstance(said, str):
        raise ConfigError(f"prefix={shown(said)} is not text: {as_text('prefix', said, 'llm:v3')}")
    if said and not encodable(said):
        raise ConfigError(
            f"prefix={shown(said)} has characters that UTF-8 does not have: {as_text('prefix', '', 'llm:v3')}"
        )
    return said or ""


def find_mode(mode: str | None) -> ModeWord:
    """``on``, ``off`` (call upstream as if askonce were not there), ``refresh``, ``only-if-cached``."""
    said = found("mode", mode)
    return "on" if said is None else check_mode(said, giver("mode", mode))


def default_near() -> object:
    """The size of the near cache of caches that say nothing."""
    return found("near")


def check_url(url: object) -> str:
    """The URL; ConfigError for anything else, with an example."""
    if isinstance(url, str) and url:
        if url.strip() and (url != url.strip() or any(sign < " " or sign == "\x7f" for sign in url)):
            # What takes URLs apart drops some of these without a word, and names another store.
            raise ConfigError(
                "the URL has spaces around it, or control characters: remove them, as in sqlite:///file.db or"
                " redis://localhost:6379/0"
            )
        return _parsed(url)
    example = f"sqlite:///{url}" if isinstance(url, os.PathLike) else "sqlite:///file.db"
    raise ConfigError(f"{shown(url)} is not a URL: write {example!r} or 'redis://localhost:6379/0'")


def _parsed(url: str) -> str:
    """The URL; ConfigError if nothing can take it apart. Those of Redis have errors of their own."""
    if not url.startswith(("sqlite:", "memory:")):
        return url
    try:
        from urllib.parse import urlsplit  # late: their stores import it too
    except ImportError:
        return url  # Python ends, and imports nothing any more: neither can the store be opened
    try:
        urlsplit(url)
    except ValueError as wrong:
        raise ConfigError(
            f"{whole(without_password(url))} is not a URL ({wrong}): write 'sqlite:///file.db' or 'memory://name'"
        ) from None
    return url


def check_mode(mode: object, who: str = "mode=") -> ModeWord:
    """The mode; a ConfigError for an unknown one names the known ones."""
    for one in MODES:
        if one_of(mode, (one,)):
            return one
    raise ConfigError(f"{who}{shown(mode)}: write one of {', '.join(MODES)}")


_CHECKS: dict[str, Callable[[Any], object]] = {
    "url": check_url,
    "prefix": find_prefix,
    "mode": check_mode,
    "near": size_of,
}


def cache_folder() -> Path | None:
    """The user's cache folder for askonce, as the platform has it; None if there can be none.

    A container that runs under a random user, or a function in a cloud, has no home, or none that it can write.
    """
    from pathlib import Path  # late: only the file in that folder needs it

    named = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    if named and Path(named).is_absolute():
        folder = Path(named) / "askonce"
    else:
        try:
            home = Path.home()
        except RuntimeError:
            return None
        if not home.is_absolute() or not os.path.isdir(home):  # noqa: PTH112 - Path.is_dir raises if access is denied
            return None
        folder = home / ("Library/Caches/askonce" if sys.platform == "darwin" else ".cache/askonce")
    return folder if _usable(folder) else None


def _usable(folder: Path) -> bool:
    """Whether the folder can be written, or can be made in its nearest existing parent."""
    try:
        there = next(one for one in (folder, *folder.parents) if one.exists())
        return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    except (OSError, StopIteration):
        return False
