"""Every round runs in a separate process, and a subject that fails is reported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from bench.round import Round, Sample, run_round
from bench.runner import Job, Runner, collect
from bench.size import SMOKE
from bench.subject import Operation, Subject, SubjectUnavailable
from bench.workload import Workload, WorkloadGroup


class Recorder(Subject):
    """Records its calls and their numbers."""

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


class Persistent(Recorder):
    name = "persistent"
    persistent_verbs = frozenset({"prepare"})


class OncePerProcess(Recorder):
    """Fails if another round ran in the same process."""

    name = "once per process"

    async def open(self) -> None:
        if self.log:
            raise AssertionError("another round ran in this process")
        await super().open()


class Synchronous(Recorder):
    name = "synchronous"
    is_async = False

    def operations(self) -> Mapping[str, Operation]:
        return {"get": self.get_now}

    def get_now(self, number: int) -> None:
        self.log.append((self.name, number))


class Unavailable(Recorder):
    name = "unavailable"

    async def open(self) -> None:
        raise SubjectUnavailable("not installed")


class Broken(Recorder):
    name = "broken"

    async def get(self, number: int) -> None:
        raise ZeroDivisionError("broken")


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Any]:
    """Runs one round of a group in this process."""
    Recorder.log.clear()

    async def run(
        *subjects: type[Subject], prepare: str | None = None, number: int = 0, **options: Any
    ) -> Round:
        found = group(*subjects, prepare=prepare, **options)
        return await run_round(found, tmp_path, keys=5, sample_seconds=0.001, number=number)

    return run


def group(*subjects: type[Subject], prepare: str | None = None, **options: Any) -> WorkloadGroup:
    workload = Workload(name="get", verb="get", baseline="recorder", **options)
    return WorkloadGroup(name="group", subjects=subjects, workloads=[workload], prepare=prepare)


def called(name: str = "recorder") -> list[int]:
    """The numbers that the subject was called with."""
    return [number for each, number in Recorder.log if each == name]


@pytest.mark.asyncio
async def test_a_round_has_a_sample_of_every_subject(run: Callable[..., Any]) -> None:
    found = await run(Recorder, Synchronous)
    assert found.missing == []
    assert {each.subject for each in found.samples} == {"recorder", "synchronous"}
    assert len(found.samples) == 2
    assert all(each.seconds > 0 for each in found.samples)


@pytest.mark.asyncio
async def test_no_number_is_used_twice(run: Callable[..., Any]) -> None:
    for number in range(3):
        await run(Recorder, callers=3, number=number)
    assert len(called()) == len(set(called()))


@pytest.mark.asyncio
async def test_the_order_of_subjects_differs_between_rounds(run: Callable[..., Any]) -> None:
    orders: set[tuple[str, ...]] = set()
    for number in range(10):
        found = await run(Recorder, Synchronous, number=number)
        orders.add(tuple(each.subject for each in found.samples))
    assert len(orders) == 2


@pytest.mark.asyncio
async def test_prepare_runs_once_per_key(run: Callable[..., Any]) -> None:
    await run(Recorder, prepare="prepare", before="prepare")
    assert sorted(called()[:5]) == [0, 1, 2, 3, 4]


@pytest.mark.asyncio
async def test_a_persistent_store_is_prepared_only_once(
    run: Callable[..., Any],
) -> None:
    for number in range(2):
        await run(Recorder, Persistent, prepare="prepare", number=number)
    assert called("recorder").count(0) == 2
    assert called("persistent").count(0) == 1


@pytest.mark.asyncio
async def test_an_unavailable_subject_is_reported(run: Callable[..., Any]) -> None:
    found = await run(Unavailable, Recorder)
    assert [each.subject for each in found.samples] == ["recorder"]
    assert [(m.subject, m.reason) for m in found.missing] == [
        ("unavailable", "SubjectUnavailable: not installed")
    ]


@pytest.mark.asyncio
async def test_a_failing_subject_is_reported_and_closed(run: Callable[..., Any]) -> None:
    found = await run(Broken, Recorder)
    assert [each.subject for each in found.samples] == ["recorder"]
    assert [m.reason for m in found.missing] == ["ZeroDivisionError: broken"]
    assert ("broken closes", 0) in Recorder.log


def test_rounds_are_combined_in_the_order_of_the_group() -> None:
    rounds = [
        Round(samples=[sample("synchronous", 3.0), sample("recorder", 1.0)]),
        Round(samples=[sample("recorder", 2.0), sample("synchronous", 4.0)]),
    ]
    found = collect(group(Recorder, Synchronous), rounds, 7)
    assert [(each.subject, each.seconds, each.baseline, each.rows) for each in found] == [
        ("recorder", [1.0, 2.0], "recorder", 7),
        ("synchronous", [3.0, 4.0], "recorder", 7),
    ]


def test_a_subject_that_missed_a_round_is_left_out() -> None:
    rounds = [Round(samples=[sample("recorder", 1.0), sample("synchronous", 3.0)])]
    rounds += [Round(samples=[sample("recorder", 2.0)])]
    found = collect(group(Recorder, Synchronous), rounds, 0)
    assert [each.subject for each in found] == ["recorder"]


def sample(subject: str, seconds: float) -> Sample:
    return Sample(workload="get", subject=subject, seconds=seconds)


def test_every_round_runs_in_a_separate_process(tmp_path: Path) -> None:
    runner = Runner(tmp_path, SMOKE)
    found = runner.run([Job(group(OncePerProcess, callers=1), keys=5)])
    assert [len(each.seconds) for each in found] == [SMOKE.rounds]
    assert runner.missing == []
    assert list(tmp_path.iterdir()) == []


def test_a_subject_that_is_never_available_is_reported_once(tmp_path: Path) -> None:
    runner = Runner(tmp_path, SMOKE)
    assert runner.run([Job(group(Unavailable), keys=5)]) == []
    assert len(runner.missing) == 1
