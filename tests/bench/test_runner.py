"""Contenders take turns in rounds, each in a process, and one that fails is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.contender import Contender, NotAvailable, Operation
from bench.round import Round, Sample, play
from bench.runner import Job, Runner, collect
from bench.size import SMOKE
from bench.workload import Family, Workload


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


class Keeper(Recorder):
    name = "keeper"
    keeps = frozenset({"prepare"})


class Counting(Recorder):
    """Refuses to be opened twice in a process."""

    name = "counting"

    async def open(self) -> None:
        if self.log:
            raise AssertionError("another round was in this process")
        await super().open()


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
def playing(tmp_path: Path) -> Callable[..., Any]:
    """Plays a round of a family in this process."""
    Recorder.log.clear()

    async def playing(
        *contenders: type[Contender], prepare: str | None = None, number: int = 0, **options: Any
    ) -> Round:
        found = family(*contenders, prepare=prepare, **options)
        return await play(found, tmp_path, keys=5, sample_seconds=0.001, number=number)

    return playing


def family(*contenders: type[Contender], prepare: str | None = None, **options: Any) -> Family:
    workload = Workload(name="get", verb="get", limit="recorder", **options)
    return Family(name="family", contenders=contenders, workloads=[workload], prepare=prepare)


def called(name: str = "recorder") -> list[int]:
    """The numbers it was called with."""
    return [number for each, number in Recorder.log if each == name]


@pytest.mark.asyncio
async def test_a_round_has_a_sample_of_every_contender(playing: Callable[..., Any]) -> None:
    found = await playing(Recorder, Synchronous)
    assert found.missing == []
    assert {each.contender for each in found.samples} == {"recorder", "synchronous"}
    assert len(found.samples) == 2
    assert all(each.seconds > 0 for each in found.samples)


@pytest.mark.asyncio
async def test_no_number_comes_twice(playing: Callable[..., Any]) -> None:
    for number in range(3):
        await playing(Recorder, callers=3, number=number)
    assert len(called()) == len(set(called()))


@pytest.mark.asyncio
async def test_the_order_differs_from_round_to_round(playing: Callable[..., Any]) -> None:
    orders: set[tuple[str, ...]] = set()
    for number in range(10):
        found = await playing(Recorder, Synchronous, number=number)
        orders.add(tuple(each.contender for each in found.samples))
    assert len(orders) == 2


@pytest.mark.asyncio
async def test_preparing_touches_every_key_once(playing: Callable[..., Any]) -> None:
    await playing(Recorder, prepare="prepare", before="prepare")
    assert sorted(called()[:5]) == [0, 1, 2, 3, 4]


@pytest.mark.asyncio
async def test_what_is_kept_is_prepared_only_once(playing: Callable[..., Any]) -> None:
    for number in range(2):
        await playing(Recorder, Keeper, prepare="prepare", number=number)
    assert called("recorder").count(0) == 2
    assert called("keeper").count(0) == 1


@pytest.mark.asyncio
async def test_one_that_is_absent_is_reported(playing: Callable[..., Any]) -> None:
    found = await playing(Absent, Recorder)
    assert [each.contender for each in found.samples] == ["recorder"]
    assert [(m.contender, m.reason) for m in found.missing] == [
        ("absent", "NotAvailable: not installed")
    ]


@pytest.mark.asyncio
async def test_one_that_fails_is_reported_and_closed(playing: Callable[..., Any]) -> None:
    found = await playing(Broken, Recorder)
    assert [each.contender for each in found.samples] == ["recorder"]
    assert [m.reason for m in found.missing] == ["ZeroDivisionError: as always"]
    assert ("broken closes", 0) in Recorder.log


def test_rounds_are_put_together_in_the_familys_order() -> None:
    rounds = [
        Round(samples=[sample("synchronous", 3.0), sample("recorder", 1.0)]),
        Round(samples=[sample("recorder", 2.0), sample("synchronous", 4.0)]),
    ]
    found = collect(family(Recorder, Synchronous), rounds, 7)
    assert [(each.contender, each.seconds, each.limit, each.rows) for each in found] == [
        ("recorder", [1.0, 2.0], "recorder", 7),
        ("synchronous", [3.0, 4.0], "recorder", 7),
    ]


def test_who_missed_a_round_is_left_out() -> None:
    rounds = [Round(samples=[sample("recorder", 1.0), sample("synchronous", 3.0)])]
    rounds += [Round(samples=[sample("recorder", 2.0)])]
    found = collect(family(Recorder, Synchronous), rounds, 0)
    assert [each.contender for each in found] == ["recorder"]


def sample(contender: str, seconds: float) -> Sample:
    return Sample(workload="get", contender=contender, seconds=seconds)


def test_every_round_has_a_process_of_its_own(tmp_path: Path) -> None:
    runner = Runner(tmp_path, SMOKE)
    found = runner.run([Job(family(Counting, callers=1), keys=5)])
    assert [len(each.seconds) for each in found] == [SMOKE.rounds]
    assert runner.missing == []
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_absent_in_each_round_is_reported_once(tmp_path: Path) -> None:
    runner = Runner(tmp_path, SMOKE)
    assert runner.run([Job(family(Absent), keys=5)]) == []
    assert len(runner.missing) == 1
