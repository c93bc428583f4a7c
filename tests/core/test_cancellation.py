"""finish_before_cancel(): an operation finishes, and a cancellation is raised after it."""

from __future__ import annotations

import asyncio

import pytest

from goscope.backend import finish_before_cancel

pytestmark = pytest.mark.asyncio


async def until(event: asyncio.Event, log: list[str]) -> str:
    await event.wait()
    log.append("finished")
    return "result"


async def test_the_result_is_returned() -> None:
    async def work() -> int:
        return 7

    assert await finish_before_cancel(work()) == 7


async def test_the_error_is_raised() -> None:
    async def work() -> None:
        raise LookupError("its own")

    with pytest.raises(LookupError, match="its own"):
        await finish_before_cancel(work())


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancelled_caller_waits_for_the_end_and_is_cancelled_then(
    cancellations: int,
) -> None:
    event, log = asyncio.Event(), list[str]()
    task = asyncio.create_task(finish_before_cancel(until(event, log)))
    for _ in range(cancellations):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert not task.done(), "the caller left before the work was finished"
    event.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log == ["finished"], "the work was cancelled with its caller"


async def test_a_cancelled_caller_can_still_read_the_outcome() -> None:
    event, log = asyncio.Event(), list[str]()
    work = asyncio.ensure_future(until(event, log))
    task = asyncio.create_task(finish_before_cancel(work))
    await asyncio.sleep(0)
    task.cancel()
    event.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert work.result() == "result"


async def test_the_cancellation_wins_over_the_error() -> None:
    """And the error is not reported as one that nobody retrieved."""
    event = asyncio.Event()
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def work() -> None:
        await event.wait()
        raise LookupError

    task = asyncio.create_task(finish_before_cancel(work()))
    await asyncio.sleep(0)
    task.cancel()
    event.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    assert reported == []


async def test_work_that_is_cancelled_itself_is_raised_as_cancelled() -> None:
    work = asyncio.get_running_loop().create_future()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finish_before_cancel(work)


async def test_a_timeout_around_it_still_is_a_timeout() -> None:
    """The cancellation that is raised afterwards is the one the timeout sent."""
    event, log = asyncio.Event(), list[str]()
    asyncio.get_running_loop().call_later(0.02, event.set)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await finish_before_cancel(until(event, log))
    assert log == ["finished"]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0, "a stray cancellation was left behind"
