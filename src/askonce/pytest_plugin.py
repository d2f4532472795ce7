"""A pytest plugin: answers are recorded once, and after that no test can call a paid API by accident.

    def test_it_greets(askonce_cache):
        client = OpenAI(http_client=askonce_cache.http_client())
        ...

``pytest --askonce=record`` calls for what is not recorded yet, and records it in ``askonce-recorded.db`` beside the
test's file. The default is ``replay``: a request that is not recorded is not sent and fails its test; the message shows
how it differs from the nearest recorded one. ``off`` calls upstream and records nothing.

``askonce_module_cache`` and similar fixtures serve fixtures of wider scopes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # not imported by every run of pytest where askonce is installed
    from pathlib import Path

    from askonce.recording.caches import RecordedAsyncCache, RecordedCache, Recording

FILE = "askonce-recorded.db"
_MODES = ("record", "replay", "off")
_NOTED = "askonce: not recorded"  # kept in a test's report, also from a worker of xdist
_recordings: pytest.StashKey[dict[Path, Recording]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--askonce`` and, in the ini file, ``askonce``."""
    says = "answers of LLM calls: record the missing ones, replay only (default), or off"
    parser.getgroup("askonce").addoption("--askonce", choices=_MODES, default=None, help=says)
    parser.addini("askonce", "default of --askonce", default="replay")
    parser.addini("askonce_compress", "how recordings are compressed: zstd, or off", default="off")
    parser.addini("askonce_encryption", "whether recordings are encrypted, with $ASKONCE_KEYS", type="bool")


# --- the caches --------------------------------------------------------------------------------------------------


def _recording(request: pytest.FixtureRequest) -> Recording:
    """The recording of this scope: beside the test's file, or at the root for a wider scope."""
    from askonce.recording.caches import Recording

    mode = request.config.getoption("--askonce") or request.config.getini("askonce")
    if mode not in _MODES:
        raise pytest.UsageError(f"askonce = {mode} in the ini file: write one of {', '.join(_MODES)}")
    known = request.config.stash.setdefault(_recordings, {})
    # pytest treats a plugin's package fixture as the session's and does not name the package.
    wide = request.scope in ("package", "session")
    path = (request.config.rootpath if wide else request.path.parent) / FILE
    made = known.get(path)
    if made is None:
        ini = request.config.getini
        made = Recording(path, mode, compress=ini("askonce_compress"), encryption=bool(ini("askonce_encryption")))
    return known.setdefault(path, made)


def _blocking(request: pytest.FixtureRequest) -> Iterator[RecordedCache]:
    from askonce.recording.caches import RecordedCache

    with RecordedCache(_recording(request)) as cache:
        yield cache


def _suspending(request: pytest.FixtureRequest) -> Iterator[RecordedAsyncCache]:

    from askonce.recording.caches import RecordedAsyncCache

    cache = RecordedAsyncCache(_recording(request))
    yield cache
    # In a loop of its own: the test's loop may be closed, and it is unknown which plugin runs it.
    asyncio.run(cache.aclose())


def _fixture(scope: Any, kind: Callable[..., Any], says: str) -> Any:
    def cache(request: pytest.FixtureRequest) -> Iterator[Any]:
        yield from kind(request)

    cache.__doc__ = says
    return pytest.fixture(scope=scope)(cache)


_SAYS = "of recorded answers: give its ``http_client()`` to an SDK, or use ``fetch``."
askonce_cache = _fixture("function", _blocking, f"A Cache {_SAYS}")
askonce_class_cache = _fixture("class", _blocking, f"A Cache for a class's fixtures, {_SAYS}")
askonce_module_cache = _fixture("module", _blocking, f"A Cache for a module's fixtures, {_SAYS}")
askonce_package_cache = _fixture("package", _blocking, f"A Cache for a package's fixtures, {_SAYS}")
askonce_session_cache = _fixture("session", _blocking, f"A Cache for the session's fixtures, {_SAYS}")
askonce_async_cache = _fixture("function", _suspending, f"An AsyncCache {_SAYS}")
askonce_class_async_cache = _fixture("class", _suspending, f"An AsyncCache for a class's fixtures, {_SAYS}")
askonce_module_async_cache = _fixture("module", _suspending, f"An AsyncCache for a module's fixtures, {_SAYS}")
askonce_package_async_cache = _fixture("package", _suspending, f"An AsyncCache for a package's fixtures, {_SAYS}")
askonce_session_async_cache = _fixture("session", _suspending, f"An AsyncCache for the session's fixtures, {_SAYS}")


# --- tests -------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, Any, Any]:
    """Start counting requests anew for a test."""
    _begin(item)
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fail a test that makes an unrecorded request, even if it swallows the error."""
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Count requests of the teardown separately: they may serve many tests."""
    _begin(item)
    return (yield from _watched(item))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Count requests of a shared fixture separately, whichever test runs it first."""
    if fixturedef.scope == "function":
        return (yield)
    known = _all(request.config)
    with ExitStack() as counting:
        for recording in known:
            counting.enter_context(recording.counting())
        result = yield
    for recording in _all(request.config):
        if recording not in known:
            recording.begin()
    return result


def _begin(item: pytest.Item) -> None:
    for recording in _all(item.config):
        recording.begin()


def _all(config: pytest.Config) -> list[Recording]:
    return list(config.stash.get(_recordings, {}).values())


def _watched(item: pytest.Item) -> Generator[None, Any, Any]:
    """A part of a test; it fails with the messages of its recordings."""
    failed: BaseException | None = None
    result: Any = None
    try:
        result = yield
    except BaseException as error:  # noqa: BLE001 - raised again below, unless there is more to say
        failed = error
    recordings = _all(item.config)
    for recording in recordings:
        item.user_properties += [(_NOTED, text) for text in recording.unrecorded()]
    message = "\n\n".join(filter(None, [recording.told() for recording in recordings]))
    if message and not isinstance(failed, KeyboardInterrupt):
        pytest.fail(message, pytrace=False)
    if failed is not None:
        raise failed
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """List what could not be recorded, by the test that requested it."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    noted = {
        (report.nodeid, text): None
        for report in reports
        for name, text in getattr(report, "user_properties", ())
        if name == _NOTED
    }
    if not noted:
        return
    terminalreporter.section("askonce: not recorded")
    for test, text in noted:
        terminalreporter.line(f"{test}: {text}")
    terminalreporter.line("These tests fail in replay, unless they do not need an answer.")
