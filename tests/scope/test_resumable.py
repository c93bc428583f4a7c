"""``@gs.resumable``: functions and methods that run as tasks."""

from __future__ import annotations

from typing import Any

import pytest

from goscope import ConfigurationError, Scope, TaskContext

from .tasks import Interrupted, State, saved_checkpoints

pytestmark = pytest.mark.asyncio


async def test_a_resumable_function_takes_on_resume(gs: Scope) -> None:
    resumed: list[str] = []

    @gs.resumable("etl:{path}", on_resume=lambda task: resumed.append(task.id))
    async def etl(task: TaskContext[Any], path: str) -> None:
        if not task.resumed:
            await task.checkpoint.save(State(1))
            raise Interrupted

    with pytest.raises(Interrupted):
        await etl("a.csv")
    await etl("a.csv")
    assert resumed == ["etl:a.csv"]


async def test_a_resumable_function_is_called_without_its_task(gs: Scope) -> None:
    @gs.resumable("etl:{path}", type=State)
    async def etl(task: TaskContext[State], path: str, *, fails: bool = False) -> int:
        done = 0 if task.checkpoint.data is None else task.checkpoint.data.done
        await task.checkpoint.save(State(done + 1))
        if fails:
            raise Interrupted
        return done + 1

    assert etl.__name__ == "etl"
    for _ in range(2):
        with pytest.raises(Interrupted):
            await etl("a.csv", fails=True)
    assert await etl("b.csv") == 1
    assert [row.task_id for row in await saved_checkpoints(gs, "etl:a.csv")] == ["etl:a.csv"] * 2
    assert await etl(path="a.csv") == 3


async def test_a_method_can_be_resumable(gs: Scope) -> None:
    class Importer:
        def __init__(self, name: str) -> None:
            self.name = name

        @gs.resumable("import:{path}", type=State)
        async def run(self, task: TaskContext[State], path: str) -> str:
            return f"{self.name} {task.id} {path}"

    assert await Importer("ada").run("a.csv") == "ada import:a.csv a.csv"


async def test_a_template_may_not_name_the_task(gs: Scope) -> None:
    async def etl(task: TaskContext[Any], path: str) -> None: ...

    with pytest.raises(ConfigurationError, match=r"names 'task', .*it has: path"):
        gs.resumable("etl:{task}")(etl)


async def test_a_function_without_a_task_is_refused(gs: Scope) -> None:
    async def etl() -> None: ...

    with pytest.raises(ConfigurationError, match="etl must take the task"):
        gs.resumable("etl")(etl)  # type: ignore[arg-type]  # wrong on purpose


async def test_a_plain_function_is_refused(gs: Scope) -> None:
    def plain(task: TaskContext[Any]) -> None: ...

    with pytest.raises(ConfigurationError, match="plain must be a coroutine function"):
        gs.resumable("etl")(plain)  # type: ignore[arg-type]  # wrong on purpose
