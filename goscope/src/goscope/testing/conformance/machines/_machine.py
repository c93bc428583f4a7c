"""What the machines share: a store to call from a thread, and the time of the model."""

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
from .._checks import HANG_S

T = TypeVar("T")

STEPS: Final = 25

SHORT_TTL_MS: Final = 1_000
LONG_TTL_MS: Final = 10**7
"""No history lasts as long as the long ttl, and no sum of ``ADVANCES_MS`` equals the short one."""

ADVANCES_MS: Final = (300, 800, 7_000)


class Session:
    """One open adapter. Another thread submits calls, and the task that opened it executes them."""

    def __init__(self, case: Conformance, folder: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: asyncio.Queue[tuple[Any, Future[Any]] | None] = asyncio.Queue()
        self._running = asyncio.run_coroutine_threadsafe(self._run(case, folder), loop)

    def call(self, operation: Callable[[PersistenceAdapter], Awaitable[T]]) -> T:
        answer: Future[T] = Future()
        self._loop.call_soon_threadsafe(self._calls.put_nowait, (operation, answer))
        either: list[Future[Any]] = [answer, self._running]
        wait(either, HANG_S, FIRST_COMPLETED)
        if self._running.done():
            self._running.result()
        return answer.result(timeout=0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._calls.put_nowait, None)
        self._running.result(HANG_S)

    async def _run(self, case: Conformance, folder: Path) -> None:
        async with case.open_adapter(folder) as adapter:
            while (call := await self._calls.get()) is not None:
                operation, answer = call
                try:
                    answer.set_result(await operation(adapter))
                except Exception as exc:
                    answer.set_exception(exc)


class Machine(RuleBasedStateMachine):
    """A history of calls. ``now`` is the time of the model, in milliseconds."""

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
        self.call(_nothing)  # returns once the adapter is open

    @classmethod
    async def compare(cls, case: Conformance, folder: Path) -> None:
        """Run histories on the adapter of the test class; fail at the first difference."""
        loop = asyncio.get_running_loop()
        stores = {"case": case, "folder": folder, "loop": loop, "stores": itertools.count()}
        options = settings(
            max_examples=case.histories,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,  # every run tests the same histories
            suppress_health_check=(
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
            ),  # they depend on the speed of the store
        )
        machine = type(cls.__name__, (cls,), stores)
        await asyncio.to_thread(run_state_machine_as_test, machine, settings=options)

    def teardown(self) -> None:
        self._session.close()

    def call(self, operation: Callable[[PersistenceAdapter], Awaitable[T]]) -> T:
        """Return the result of the provider, or raise its error."""
        return self._session.call(operation)

    def deadline(self, ttl: int | None) -> int | None:
        return None if ttl is None else self.now + ttl

    def ttl(self, ttl: T) -> T | int:
        """The ttl; a long one instead of a short one if the test class does not control time."""
        return LONG_TTL_MS if ttl == SHORT_TTL_MS and not self.case.controls_time() else ttl

    def has_passed(self, deadline: int | None) -> bool:
        return deadline is not None and deadline <= self.now

    @precondition(lambda self: self.case.controls_time())
    @rule(milliseconds=st.sampled_from(ADVANCES_MS))
    def advance(self, milliseconds: int) -> None:
        duration = timedelta(milliseconds=milliseconds)
        self.call(lambda adapter: self.case.advance(adapter, duration))
        self.now += milliseconds

    def check(self, what: str, found: object, expected: object) -> None:
        """Fail unless the result of the provider is that of the model."""
        assert found == expected, f"{what}: {found!r}, but the model has {expected!r}"


async def _nothing(adapter: PersistenceAdapter) -> None:
    pass
