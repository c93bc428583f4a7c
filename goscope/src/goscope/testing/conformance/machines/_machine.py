"""What the machines share: a store to call from a thread, and the time the model counts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from ....providers import PersistenceAdapter
from .._base import Conformance

T = TypeVar("T")

STEPS: Final = 25
PATIENCE: Final = 60.0
"""Seconds after which a call of the provider is taken for hung."""

SHORT: Final = 1_000
LONG: Final = 10**7
"""Times to live in milliseconds. No history outlasts the long one; sums of ``PASSING`` never hit
the short one exactly."""

PASSING: Final = (300, 800, 7_000)


class Session:
    """One open adapter, used in the one task that opened it and driven from another thread."""

    def __init__(self, case: Conformance, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._orders: asyncio.Queue[tuple[Any, Future[Any]] | None] = asyncio.Queue()
        self._running = asyncio.run_coroutine_threadsafe(self._run(case, folder), loop)

    def call(self, operation: Callable[[PersistenceAdapter], Awaitable[T]]) -> T:
        answer: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._orders.put_nowait, (operation, answer))
        either: list[Future[Any]] = [answer, self._running]
        wait(either, PATIENCE, FIRST_COMPLETED)
        if self._running.done():
            self._running.result()
        return answer.result(timeout=0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._orders.put_nowait, None)
        self._running.result(PATIENCE)

    async def _run(self, case: Conformance, folder: Path) -> None:
        async with case.open_adapter(folder) as adapter:
            while (order := await self._orders.get()) is not None:
                operation, answer = order
                try:
                    answer.set_result(await operation(adapter))
                except Exception as exc:
                    answer.set_exception(exc)


class Machine(RuleBasedStateMachine):
    """A history of calls. ``now`` is the time that has passed in the model, in milliseconds."""

    case: ClassVar[Conformance]
    folder: ClassVar[Path]
    loop: ClassVar[asyncio.AbstractEventLoop]
    stores: ClassVar[itertools.count[int]]

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        folder = self.folder / f"store{next(self.stores)}"
        folder.mkdir()
        self._session = Session(self.case, folder, self.loop)
        self.ask(_nothing)  # the adapter is open from here on

    @classmethod
    async def compare(cls, case: Conformance, folder: Path) -> None:
        """Run histories against the adapter of the test class; fail at the first difference."""
        loop = asyncio.get_running_loop()
        stores = {"case": case, "folder": folder, "loop": loop, "stores": itertools.count()}
        options = settings(
            max_examples=case.histories,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,  # a contract says the same each day
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
            ),  # they measure the store
        )
        machine = type(cls.__name__, (cls,), stores)
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=options)

    def teardown(self) -> None:
        self._session.close()

    def ask(self, operation: Callable[[PersistenceAdapter], Awaitable[T]]) -> T:
        """The answer of the provider, or what it raised."""
        return self._session.call(operation)

    def deadline(self, ttl: int | None) -> int | None:
        return None if ttl is None else self.now + ttl

    def ttl(self, ttl: T) -> T | int:
        """The ttl, or a long one in place of a short one where time is not ours to move."""
        return LONG if ttl == SHORT and not self.case.time_is_free() else ttl

    def is_over(self, deadline: int | None) -> bool:
        return deadline is not None and deadline <= self.now

    @precondition(lambda self: self.case.time_is_free())
    @rule(milliseconds=st.sampled_from(PASSING))
    def time_passes(self, milliseconds: int) -> None:
        duration = timedelta(milliseconds=milliseconds)
        self.ask(lambda adapter: self.case.advance(adapter, duration))
        self.now += milliseconds

    def agree(self, what: str, found: object, expected: object) -> None:
        assert found == expected, f"{what}: {found!r}, the model says {expected!r}"


async def _nothing(adapter: PersistenceAdapter) -> None:
    pass
