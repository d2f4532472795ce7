"""A pytest plugin: answers are recorded once, and from then on no test can call a paid API by accident.

    def test_it_greets(askonce_cache):
        client = OpenAI(http_client=askonce_cache.http_client())
        ...

``pytest --askonce=record`` asks what is not recorded yet, and records it in ``askonce-recorded.db`` beside the test's
file. Without it, ``replay``: a request that is not recorded is not sent, and fails its test, which says how it differs
from the nearest that is. ``off`` calls upstream and records nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # not imported with every run of pytest in an environment that has askonce
    from askonce.recording import RecordedAsyncCache, RecordedCache, Recording

FILE = "askonce-recorded.db"
_MODES = ("record", "replay", "off")
_recordings: pytest.StashKey[Recording] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--askonce`` and, in the ini file, ``askonce``."""
    says = "answers of LLM calls: record what is missing, replay only (the default), or off"
    parser.getgroup("askonce").addoption("--askonce", choices=_MODES, default=None, help=says)
    parser.addini("askonce", "the default of --askonce", default="replay")


@pytest.fixture
def _askonce_recording(request: pytest.FixtureRequest) -> Recording:
    from askonce.recording import Recording

    mode = request.config.getoption("--askonce") or request.config.getini("askonce")
    if mode not in _MODES:
        raise pytest.UsageError(f"askonce = {mode} in the ini file: write one of {', '.join(_MODES)}")
    recording = Recording(request.path.parent / FILE, mode)
    request.node.stash[_recordings] = recording
    return recording


@pytest.fixture
def askonce_cache(_askonce_recording: Recording) -> Iterator[RecordedCache]:
    """A Cache of recorded answers: give its ``http_client()`` to an SDK, or use ``fetch``."""
    from askonce.recording import RecordedCache

    with RecordedCache(_askonce_recording) as cache:
        yield cache


@pytest.fixture
def askonce_async_cache(_askonce_recording: Recording) -> Iterator[RecordedAsyncCache]:
    """The same for async code."""
    from askonce.recording import RecordedAsyncCache

    cache = RecordedAsyncCache(_askonce_recording)
    yield cache
    # In a loop of its own: the test's may be over, and which plugin runs it is not ours to know.
    asyncio.run(cache.aclose())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that asked for what is not recorded fails, even if it swallowed the error that it got instead."""
    failed: BaseException | None = None
    result: Any = None
    try:
        result = yield
    except BaseException as error:  # noqa: BLE001 - raised again below, unless there is more to say
        failed = error
    recording = item.stash.get(_recordings, None)
    if recording is not None and not isinstance(failed, KeyboardInterrupt) and (told := recording.told()):
        pytest.fail(told, pytrace=False)
    if failed is not None:
        raise failed
    return result
