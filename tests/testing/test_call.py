from __future__ import annotations

import asyncio
import inspect
import multiprocessing
import threading
from pathlib import Path

import pytest

from askonce.testing import Receipts, ScriptedCall, Step, UpstreamError, question_of

REQUEST = {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Why?"}]}


def pay(path: Path, times: int) -> None:
    call = ScriptedCall(receipts=path)
    for _ in range(times):
        call(REQUEST)


def test_a_call_answers_in_the_shape_of_the_request_and_counts():
    call = ScriptedCall()
    assert call(REQUEST)["choices"][0]["finish_reason"] == "stop"
    assert call({"model": "claude-sonnet-4-5", "messages": REQUEST["messages"]})["stop_reason"] == "end_turn"
    assert call({"input": "Why?"})["object"] == "response"
    assert call({"model": "text-embedding-3-small", "input": "Why?"})["object"] == "list"
    assert call({"any": ["thing"]})["question"] == '{"any":["thing"]}'
    assert call.paid("Why?") == call.paid(REQUEST) == 4
    assert call.calls == 5


def test_a_question_is_the_text_of_the_last_user_turn():
    parts = [{"type": "text", "text": "Why "}, {"type": "image_url"}, {"type": "text", "text": "so?"}]
    turns = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "x"}]
    assert question_of({"messages": [*turns, {"role": "user", "content": parts}]}) == "Why so?"
    assert question_of({"messages": turns}) == "first"
    assert question_of({"input": ["a", "b"]}) == '["a","b"]'


async def test_threads_and_tasks_share_one_script_and_one_count():
    call = ScriptedCall(delay=0.001)
    call.script("Why?", "truncated", "complete")
    first = await call.aio(REQUEST)
    second = await asyncio.to_thread(call, REQUEST)
    assert [answer["choices"][0]["finish_reason"] for answer in (first, second)] == ["length", "stop"]
    assert (first["id"][-1], second["id"][-1]) == ("1", "2")


async def test_the_closures_are_what_they_say():
    call = ScriptedCall()
    assert call.on(REQUEST)()["object"] == (await call.aio_on(REQUEST)())["object"]
    assert inspect.iscoroutinefunction(call.aio_on(REQUEST))
    assert not inspect.iscoroutinefunction(call.on(REQUEST))


def test_a_scripted_status_and_a_scripted_exception_are_raised():
    call = ScriptedCall()
    call.script("Why?", 429, KeyError("no"), "complete")
    with pytest.raises(UpstreamError) as raised:
        call(REQUEST)
    assert (raised.value.status, raised.value.body["error"]["type"]) == (429, "rate_limit_error")
    with pytest.raises(KeyError):
        call(REQUEST)
    assert call(REQUEST)["choices"]
    assert (call.paid("Why?"), call.in_flight) == (3, 0)


@pytest.mark.concurrency
def test_a_thread_hangs_until_released():
    call = ScriptedCall()
    call.script("Why?", Step(hang=True))
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(call(REQUEST)))
    thread.start()
    call.wait_until_paid("Why?")
    assert not answers
    assert call.release("Why?") == 1
    thread.join(60)
    assert len(answers) == 1


@pytest.mark.concurrency
async def test_a_task_hangs_until_released_and_a_cancelled_one_is_not_counted_as_released():
    call = ScriptedCall()
    call.script("Why?", Step(hang=True))
    kept, dropped = asyncio.create_task(call.aio(REQUEST)), asyncio.create_task(call.aio(REQUEST))
    await asyncio.sleep(0)
    dropped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dropped
    assert call.in_flight == 1
    assert call.release() == 1
    assert (await kept)["choices"]


def test_waiting_for_a_payment_that_does_not_come_says_what_came():
    call = ScriptedCall()
    call(REQUEST)
    with pytest.raises(TimeoutError, match=r"How\?: paid \{'Why\?': 1\}"):
        call.wait_until_paid("How?", timeout=0.01)


@pytest.mark.concurrency
def test_processes_count_together_by_receipts(tmp_path):
    receipts = Receipts(tmp_path / "paid")
    assert (receipts.paid(), receipts.rows()) == (0, [])
    context = multiprocessing.get_context("forkserver")  # what a spawned child imports, this imports once for all
    context.set_forkserver_preload([__name__])
    children = [context.Process(target=pay, args=(tmp_path / "paid", 50)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert receipts.paid("Why?") == receipts.paid(REQUEST) == receipts.paid() == 150
    assert {receipt.pid for receipt in receipts.rows()} == {child.pid for child in children}
    assert receipts.paid("How?") == 0
