"""running_time_limit(): time in which the event loop is blocked does not count."""

from __future__ import annotations

import asyncio
import time

import pytest

from goscope._tools.running_time import running_time_limit

pytestmark = pytest.mark.asyncio


async def test_a_blocked_loop_does_not_end_the_block() -> None:
    answer = asyncio.get_running_loop().create_future()
    answer.get_loop().call_later(0.01, answer.set_result, 7)
    async with running_time_limit(0.5):
        time.sleep(1)  # noqa: ASYNC251  # what the limit is for
        assert await answer == 7


async def test_a_block_that_never_ends_is_ended() -> None:
    with pytest.raises(TimeoutError):
        async with running_time_limit(0.05):
            await asyncio.Event().wait()


async def test_nothing_is_left_of_the_limit() -> None:
    async with running_time_limit(0.01):
        pass
    await asyncio.sleep(0.05)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
