"""Contenders take turns, and one that fails is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.contender import Contender, NotAvailable, Operation
from bench.runner import Runner
from bench.size import SMOKE
from bench.workload import Family, Workload

pytestmark = pytest.mark.asyncio


class Recorder(Contender):
    """Notes which contender was called with which number."""

    name = "recorder"
    about = "for tests"
    log: ClassVar[list[tuple[str, int]]] = []

    async def open(self) -> None:
        self.log.append((f"{self.name} opens", 0))

    async def close(self) -> None:
        self.log.append((f"{self.name} closes", 0))

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get, "prepare": self.get}

    async def get(self, number: int) -> None:
        self.log.append((self.name, number))


class Synchronous(Recorder):
    name = "synchronous"
    awaits = False

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get_now}

    def get_now(self, number: int) -> None:
        self.log.append((self.name, number))


class Absent(Recorder):
    name = "absent"

    async def open(self) -> None:
        raise NotAvailable("not installed")


class Broken(Recorder):
    name = "broken"

    async def get(self, number: int) -> None:
        raise ZeroDivisionError("as always")


@pytest.fixture
def measure(tmp_path: Path) -> Callable[..., Any]:
    Recorder.log.clear()

    async def measure(
        *contenders: type[Contender], prepare: str | None = None, **options: Any
    ) -> tuple[Runner, list[Any]]:
        runner = Runner(tmp_path, SMOKE)
        workload = Workload(name="get", verb="get", limit="recorder", **options)
        family = Family(name="family", contenders=contenders, workloads=[workload], prepare=prepare)
        return runner, await runner.run(family, keys=5)

    return measure


async def test_every_round_has_a_sample_of_every_contender(measure: Callable[..., Any]) -> None:
    runner, measured = await measure(Recorder, Synchronous)
    assert runner.missing == []
    assert [each.contender for each in measured] == ["recorder", "synchronous"]
    assert [len(each.seconds) for each in measured] == [SMOKE.rounds, SMOKE.rounds]


async def test_no_number_comes_twice(measure: Callable[..., Any]) -> None:
    await measure(Recorder, callers=3)
    numbers = [number for name, number in Recorder.log if name == "recorder"]
    assert sorted(numbers) == list(range(len(numbers)))


async def test_preparing_touches_every_key_once(measure: Callable[..., Any]) -> None:
    await measure(Recorder, prepare="prepare", before="prepare")
    prepared = [number for name, number in Recorder.log if name == "recorder"][:5]
    assert sorted(prepared) == [0, 1, 2, 3, 4]


async def test_one_that_is_absent_is_reported(measure: Callable[..., Any]) -> None:
    runner, measured = await measure(Absent, Recorder)
    assert [each.contender for each in measured] == ["recorder"]
    assert [(m.contender, m.reason) for m in runner.missing] == [
        ("absent", "NotAvailable: not installed")
    ]


async def test_one_that_fails_is_reported_and_closed(measure: Callable[..., Any]) -> None:
    runner, measured = await measure(Broken, Recorder)
    assert [each.contender for each in measured] == ["recorder"]
    assert [m.reason for m in runner.missing] == ["ZeroDivisionError: as always"]
    assert ("broken closes", 0) in Recorder.log
