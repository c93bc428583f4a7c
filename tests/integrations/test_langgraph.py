"""The saver of LangGraph: the conformance tests that its authors publish, and two writers."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from .libraries import require

require("langgraph.graph", "langgraph.checkpoint.conformance")

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointMetadata,
    CheckpointTuple,
    empty_checkpoint,
)
from langgraph.checkpoint.conformance import checkpointer_test, validate  # pyright: ignore[reportMissingTypeStubs]
from langgraph.checkpoint.conformance.report import ProgressCallbacks  # pyright: ignore[reportMissingTypeStubs]
from langgraph.graph import END, START, StateGraph  # pyright: ignore[reportMissingTypeStubs]
from langgraph.types import Command, interrupt

from goscope import CheckpointConflict, Scope
from goscope.integrations.langgraph import GoscopeSaver
from goscope_sqlite import SQLiteAdapter

pytestmark = pytest.mark.asyncio

CONFORMANCE_TESTS = 81
"""How many there are in langgraph-checkpoint-conformance 0.0.2."""


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_conformance_at_the_full_level(backend: str, tmp_path: Path) -> None:
    files = iter(range(100))

    async def saver() -> AsyncGenerator[BaseCheckpointSaver[Any]]:
        options: dict[str, Any] = (
            {} if backend == "memory" else {"path": tmp_path / f"{next(files)}.db"}
        )
        async with Scope(backend=backend, **options) as gs:
            yield GoscopeSaver(gs)

    registered = checkpointer_test(name=backend)(saver)
    report = await validate(registered, progress=ProgressCallbacks.quiet())
    assert [failure for result in report.results.values() for failure in result.failures] == []
    assert report.conformance_level() == "FULL"
    assert all(result.detected for result in report.results.values())
    assert sum(it.tests_passed for it in report.results.values()) >= CONFORMANCE_TESTS


class State(TypedDict):
    steps: Annotated[list[str], operator.add]


async def first(state: State) -> State:
    return {"steps": ["first"]}


async def ask(state: State) -> State:
    return {"steps": [interrupt("go on?")]}


class MeetingSaver(GoscopeSaver):
    """Its run goes on when all runs of the barrier have loaded their first checkpoint."""

    def __init__(self, gs: Scope, barrier: asyncio.Barrier) -> None:
        super().__init__(gs)
        self._barrier: asyncio.Barrier | None = barrier

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        barrier, self._barrier = self._barrier, None
        if barrier is not None:
            await barrier.wait()
        return found


def compiled(gs: Scope, saver: GoscopeSaver | None = None) -> Any:
    builder: Any = StateGraph(State)
    builder.add_node("first", first)
    builder.add_node("ask", ask)
    builder.add_edge(START, "first")
    builder.add_edge("first", "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=saver or GoscopeSaver(gs))


def thread(name: str = "t-1") -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


async def parents(graph: Any, config: RunnableConfig) -> list[str | None]:
    return [
        state.parent_config and state.parent_config["configurable"]["checkpoint_id"]
        async for state in graph.aget_state_history(config)
    ]


async def two_writers(folder: Path, *inputs: Any, **options: Any) -> Sequence[Any]:
    """What two scopes on one file, as of two processes, get for runs at the same time."""
    async with (
        Scope(persistence=SQLiteAdapter(folder / "graph.db")) as one,
        Scope(persistence=SQLiteAdapter(folder / "graph.db")) as two,
    ):
        barrier = asyncio.Barrier(len(inputs))
        runs = [
            compiled(gs, MeetingSaver(gs, barrier)).ainvoke(given, thread(), **options)
            for gs, given in zip((one, two), inputs, strict=True)
        ]
        results = await asyncio.gather(*runs, return_exceptions=True)
        found = await parents(compiled(one), thread())
        assert len(found) == len(set(found)), "the thread has a fork"
    return results


async def test_of_two_writers_that_resume_a_thread_one_is_refused(tmp_path: Path) -> None:
    async with Scope(backend="sqlite", path=tmp_path / "graph.db") as gs:
        await compiled(gs).ainvoke({"steps": []}, thread())
    results = await two_writers(tmp_path, Command(resume="yes"), Command(resume="no"))
    refused = [result for result in results if isinstance(result, CheckpointConflict)]
    assert len(refused) == 1, results
    (kept,) = (result for result in results if not isinstance(result, Exception))
    async with Scope(backend="sqlite", path=tmp_path / "graph.db") as gs:
        state = await compiled(gs).aget_state(thread())
    assert state.values["steps"] == kept["steps"]


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
async def test_of_two_writers_that_begin_a_thread_one_is_refused(
    tmp_path: Path, durability: str
) -> None:
    new: State = {"steps": []}
    results = await two_writers(tmp_path, new, new, durability=durability)
    assert sum(isinstance(result, CheckpointConflict) for result in results) == 1, results


async def test_a_run_that_began_before_the_thread_had_checkpoints_is_refused() -> None:
    """It saves its first checkpoint when another run has saved all of its own."""
    async with Scope(backend="memory") as gs:
        await compiled(gs).ainvoke({"steps": []}, thread())
        config: RunnableConfig = {"configurable": {"thread_id": "t-1", "checkpoint_ns": ""}}
        first: CheckpointMetadata = {"source": "input", "step": -1, "parents": {}}
        with pytest.raises(CheckpointConflict):
            await GoscopeSaver(gs).aput(config, empty_checkpoint(), first, {})


async def test_a_run_from_an_older_checkpoint_forks_the_thread() -> None:
    async with Scope(backend="memory") as gs:
        graph = compiled(gs)
        await graph.ainvoke({"steps": []}, thread())
        await graph.ainvoke(Command(resume="yes"), thread())
        history = [state async for state in graph.aget_state_history(thread())]
        older = next(state for state in history if state.next == ("first",))
        again = await graph.ainvoke(None, older.config)
        assert again["steps"] == ["first"], "it asks once more"
        found = await parents(graph, thread())
        assert found.count(older.config["configurable"]["checkpoint_id"]) == 2
        edited = await graph.aupdate_state(older.config, {"steps": ["edited"]})
        assert (await graph.aget_state(edited)).values["steps"] == ["edited"]
        assert (await graph.ainvoke(None, thread()))["steps"] == ["edited", "first"]


async def test_threads_with_names_like_patterns_are_apart() -> None:
    async with Scope(backend="memory") as gs:
        graph, saver = compiled(gs), GoscopeSaver(gs)
        names = ["a", "a*", "a:b", "*", "ü/%"]
        for name in names:
            await graph.ainvoke({"steps": []}, thread(name))
        await saver.adelete_thread("a*")
        await saver.adelete_thread("*")
        left = {_thread_of(it.config) async for it in saver.alist(None)}
        assert left == {"a", "a:b", "ü/%"}
        for name in left:
            await saver.adelete_thread(name)
        assert [task async for task in gs.inspect.tasks()] == []


async def test_a_conflict_leaves_nothing_behind() -> None:
    async with Scope(backend="memory") as gs:
        graph, barrier = compiled(gs), asyncio.Barrier(5)
        new: State = {"steps": []}
        runs = [compiled(gs, MeetingSaver(gs, barrier)).ainvoke(new, thread()) for _ in range(5)]
        results = await asyncio.gather(*runs, return_exceptions=True)
        assert sum(isinstance(result, CheckpointConflict) for result in results) == 4
        tasks = [task.id async for task in gs.inspect.tasks("*:body:*")]
        assert len(tasks) == len(await parents(graph, thread()))


def _thread_of(config: RunnableConfig) -> str:
    return str(config.get("configurable", {})["thread_id"])
