"""``finish_before_cancel``: the operation finishes, and a cancellation is raised afterwards."""

from __future__ import annotations

import asyncio

import pytest

from goscope.backend import finish_before_cancel

pytestmark = pytest.mark.asyncio


async def finish_after(event: asyncio.Event, log: list[str]) -> str:
    await event.wait()
    log.append("finished")
    return "result"


async def test_the_result_is_returned() -> None:
    async def work() -> int:
        return 7

    assert await finish_before_cancel(work()) == 7


async def test_the_error_is_raised() -> None:
    async def work() -> None:
        raise LookupError("not found")

    with pytest.raises(LookupError, match="not found"):
        await finish_before_cancel(work())


@pytest.mark.parametrize("cancellations", [1, 3])
async def test_a_cancelled_caller_is_cancelled_after_the_work_has_finished(
    cancellations: int,
) -> None:
    event, log = asyncio.Event(), list[str]()
    task = asyncio.create_task(finish_before_cancel(finish_after(event, log)))
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
    work = asyncio.ensure_future(finish_after(event, log))
    task = asyncio.create_task(finish_before_cancel(work))
    await asyncio.sleep(0)
    task.cancel()
    event.set()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert work.result() == "result"


async def test_the_cancellation_wins_over_the_error() -> None:
    """And asyncio does not report the error as never retrieved."""
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


async def test_the_cancellation_of_the_work_is_raised() -> None:
    work = asyncio.get_running_loop().create_future()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await finish_before_cancel(work)


async def test_a_timeout_around_the_work_raises_timeout_error() -> None:
    """The cancellation that is raised afterwards is that of the timeout."""
    event, log = asyncio.Event(), list[str]()
    limit = asyncio.timeout(0)

    async def finish_late() -> None:
        while not limit.expired():  # noqa: ASYNC110  # a timeout sets no event
            await asyncio.sleep(0)
        event.set()

    late = asyncio.create_task(finish_late())
    with pytest.raises(TimeoutError):
        async with limit:
            await finish_before_cancel(finish_after(event, log))
    await late
    assert log == ["finished"]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0, "a stray cancellation was left behind"
