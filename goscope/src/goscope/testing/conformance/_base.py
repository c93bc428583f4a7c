"""The base class of every part of the provider contract."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

import pytest

from ..._tools.duration import strict_milliseconds
from ...backend import Clock
from ...providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
    PersistenceAdapter,
)
from .._clock import FakeClock

P = TypeVar("P")

REPORT_PROPERTY: Final = "goscope.conformance"
"""The property of a test report that holds test class, part of the contract and capabilities."""


# A fixed loop scope makes the tests independent of the host project's default.
@pytest.mark.asyncio(loop_scope="function")
class Conformance:
    """The base class of the conformance tests.

    A test class inherits the parts of the contract that its backend implements, declares
    ``capabilities`` and overrides ``open_adapter``. Defining a subclass without one of them raises
    ``TypeError``; ``abstract=True`` marks a base class. ``processes = True`` adds the tests that
    need several processes, see `goscope.testing.processes`.
    """

    capabilities: ClassVar[frozenset[Capability]]
    processes: ClassVar[bool] = False
    histories: ClassVar[int] = 25
    """How many histories of calls compare each provider with its model."""

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _reject_overridden_tests(cls)
        if abstract:
            return
        # A plain class, not an ABC: pytest silently skips abstract classes.
        if cls.open_adapter is Conformance.open_adapter:
            raise TypeError(
                f"{cls.__name__} does not override open_adapter: write it as an "
                f"@asynccontextmanager method that yields a connected adapter"
            )
        if not hasattr(cls, "capabilities"):
            raise TypeError(
                f"{cls.__name__} does not declare its capabilities: write "
                f"`capabilities = frozenset({{Capability.PERSISTENT}})`, or frozenset() for none"
            )

    def open_adapter(
        self, tmp_path: Path, *, key_prefix: str | None = None
    ) -> AbstractAsyncContextManager[PersistenceAdapter]:
        """Open an adapter on the store of the folder, and close it at the end.

        Adapters opened for one folder, one after the other or concurrently, use one store; another
        folder has another store. A store without files may use the folder's name.
        """
        raise NotImplementedError

    @cached_property
    def clock(self) -> Clock:
        """The clock that ``open_adapter`` passes on. The tests advance it instead of waiting.

        Tests with several processes use the machine's clock.
        """
        return FakeClock()

    async def advance(self, adapter: PersistenceAdapter, duration: timedelta | str) -> None:
        """Let time pass for the adapter: in real time, unless it uses ``clock``."""
        if (clock := self._fake_clock()) is not None:
            await self.advance_server(adapter, strict_milliseconds(duration))
            await clock.advance(duration)
        else:
            await asyncio.sleep(strict_milliseconds(duration) / 1000)

    async def advance_server(self, adapter: PersistenceAdapter, milliseconds: int) -> None:
        """Advance the clock of the adapter's server, if it has one; then ``clock`` advances.

        A server whose clock cannot be set may subtract the duration from every stored time.
        """

    def controls_time(self) -> bool:
        """Whether ``advance`` takes no real time; known once an adapter was opened."""
        overridden = type(self).advance is not Conformance.advance
        return overridden or self._fake_clock() is not None

    def _fake_clock(self) -> FakeClock | None:
        used = vars(self).get("clock")  # cached once ``open_adapter`` has read it
        return used if isinstance(used, FakeClock) else None

    def provides(self, contract: type[Conformance]) -> bool:
        """Whether the backend has what the part of the contract tests."""
        return isinstance(self, contract)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrize tests by what the backend provides; parts of the contract extend it."""

    @pytest.fixture(autouse=True)
    def _label_for_report(self, request: pytest.FixtureRequest) -> None:
        """Label the test for `report`; the label also crosses from xdist workers."""
        part = request.node.originalname.split("_")[1]
        declared = ",".join(sorted(it.name for it in self.capabilities))
        request.node.user_properties.append(
            (REPORT_PROPERTY, f"{type(self).__name__} {part} {declared}")
        )


def _reject_overridden_tests(cls: type[Conformance]) -> None:
    """Raise ``TypeError`` if two classes define different tests of one name."""
    seen: dict[str, tuple[str, object]] = {}
    for base in cls.__mro__:
        for name, test in vars(base).items():
            if not name.startswith("test_") or test is None:
                continue
            first, found = seen.setdefault(name, (base.__name__, test))
            if found is not test:
                raise TypeError(
                    f"{first}.{name} overrides the conformance test of that name in "
                    f"{base.__name__}: choose another name"
                )


def locks_of(adapter: PersistenceAdapter, role: str = "lease") -> LockProvider:
    return _provided(adapter.lock if role == "lock" else adapter.lease, role)


def cache_of(adapter: PersistenceAdapter) -> CacheProvider:
    return _provided(adapter.cache, "cache")


def circuits_of(adapter: PersistenceAdapter) -> CircuitBreakerStateProvider:
    return _provided(adapter.circuit_breaker, "circuit_breaker")


def checkpoints_of(adapter: PersistenceAdapter) -> CheckpointProvider:
    return _provided(adapter.checkpoint, "checkpoint")


def idempotency_of(adapter: PersistenceAdapter) -> IdempotencyProvider:
    return _provided(adapter.idempotency, "idempotency")


def _provided(provider: P | None, name: str) -> P:
    if provider is None:
        pytest.fail(
            f"adapter.{name} is None, but this class inherits its contract: provide it, "
            f"or inherit only the parts of the contract that the backend implements"
        )
    return provider
