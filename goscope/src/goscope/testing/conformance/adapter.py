"""The contract of `goscope.PersistenceAdapter`, and of the parts that a test class inherits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from ...backend import Clock
from ...errors import ConfigurationError, ScopeNotOpen
from ...providers import (
    CacheProvider,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
    PersistenceAdapter,
    SupportsEvents,
    SupportsInspection,
    SupportsTransactions,
    SupportsWait,
)
from ._base import Conformance, locks_of
from ._checks import HANG_S, run_ticks
from ._locks import granted, held
from ._operations import operations_of
from .cache import CacheConformance
from .capabilities import CapabilityConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .events import EventsConformance
from .idempotency import IdempotencyConformance
from .inspection import InspectionConformance
from .lock import LockConformance
from .transactions import TransactionsConformance
from .wait import WaitConformance


class Ability(NamedTuple):
    """An attribute of the adapter, its Protocol, and the part of the contract that tests it.

    The attribute "" stands for the adapter itself.
    """

    attribute: str
    protocol: type[Any]
    contract: type[Conformance]


ABILITIES: Final = (
    Ability("lock", LockProvider, LockConformance),
    Ability("lease", LockProvider, LockConformance),
    Ability("cache", CacheProvider, CacheConformance),
    Ability("circuit_breaker", CircuitBreakerStateProvider, CircuitBreakerConformance),
    Ability("checkpoint", CheckpointProvider, CheckpointConformance),
    Ability("idempotency", IdempotencyProvider, IdempotencyConformance),
)


OPTIONS: Final = (
    Ability("lease", SupportsWait, WaitConformance),
    Ability("", SupportsEvents, EventsConformance),
    Ability("", SupportsInspection, InspectionConformance),
    Ability("", SupportsTransactions, TransactionsConformance),
)

LOCK_ROLES: Final = ("lock", "lease")


class AdapterConformance(CapabilityConformance, abstract=True):
    """An adapter connects, disconnects, and has what the test class declares."""

    # --- what it has -------------------------------------------------------------------------

    async def test_adapter_has_every_member_of_the_protocol(self, tmp_path: Path) -> None:
        """The adapter has all members of `goscope.PersistenceAdapter`."""
        async with self.open_adapter(tmp_path) as adapter:
            missing = [name for name in members(PersistenceAdapter) if not hasattr(adapter, name)]
            assert missing == [], f"the adapter lacks {missing}"
            assert isinstance(adapter, PersistenceAdapter)

    @pytest.mark.parametrize("ability", ABILITIES, ids=[it.attribute for it in ABILITIES])
    async def test_adapter_has_each_inherited_provider_complete(
        self, tmp_path: Path, ability: Ability
    ) -> None:
        """A provider is complete and tested, or absent and not tested."""
        async with self.open_adapter(tmp_path) as adapter:
            provider = getattr(adapter, ability.attribute)
            tested = self.provides(ability.contract)
            contract = ability.contract.__name__
            if provider is None:
                assert not tested, f"{contract} is inherited, adapter.{ability.attribute} is None"
                return
            assert tested, f"adapter.{ability.attribute} exists: inherit {contract} too"
            missing = list(missing_methods(provider, ability.protocol))
            assert missing == [], f"adapter.{ability.attribute} lacks the coroutines {missing}"

    async def test_adapter_has_a_lease_and_another_provider(self, tmp_path: Path) -> None:
        """Every feature needs leases, and none works with leases alone."""
        async with self.open_adapter(tmp_path) as adapter:
            assert adapter.lease is not None, "adapter.lease is None: no feature works without it"
            others = [it.attribute for it in ABILITIES if it.attribute != "lease"]
            assert any(getattr(adapter, name) is not None for name in others)

    @pytest.mark.parametrize("option", OPTIONS, ids=[it.protocol.__name__ for it in OPTIONS])
    async def test_adapter_has_each_inherited_optional_ability(
        self, tmp_path: Path, option: Ability
    ) -> None:
        """An optional ability is tested if and only if the adapter has it."""
        async with self.open_adapter(tmp_path) as adapter:
            owner = getattr(adapter, option.attribute) if option.attribute else adapter
            found, tested = isinstance(owner, option.protocol), self.provides(option.contract)
            contract = option.contract.__name__
            assert tested or not found, f"{owner!r} has what {contract} tests: inherit it too"
            assert found or not tested, f"{contract} is inherited, {owner!r} lacks what it tests"

    # --- time --------------------------------------------------------------------------------

    async def test_adapter_has_the_clock_of_its_store(self, tmp_path: Path) -> None:
        """``adapter.clock`` advances with the time that the store measures."""
        async with self.open_adapter(tmp_path) as adapter:
            clock: Clock = adapter.clock
            assert isinstance(clock.boot_id, str)
            wall, steady = clock.wall_ms(), clock.steady_ms()
            assert type(wall) is int, f"wall_ms() is {wall!r}, not an int"
            assert type(steady) is int, f"steady_ms() is {steady!r}, not an int"
            await self.advance(adapter, "500ms")
            assert clock.wall_ms() - wall >= 400, "adapter.clock is not the clock of the store"
            assert clock.steady_ms() - steady >= 400, "adapter.clock is not the clock of the store"

    async def test_adapter_default_lock_ttl_is_that_of_its_locks(self, tmp_path: Path) -> None:
        """A lease that is acquired without a ttl runs for ``default_lock_ttl_ms``."""
        async with self.open_adapter(tmp_path) as adapter:
            default_ms = adapter.default_lock_ttl_ms
            assert type(default_ms) is int, f"default_lock_ttl_ms is {default_ms!r}, not an int"
            assert await locks_of(adapter).acquire("key") is not None
            left_ms = (await held(locks_of(adapter), "key")).expires_in_ms
            assert default_ms - 10_000 < left_ms <= default_ms, f"{left_ms} ms are left"

    # --- connecting --------------------------------------------------------------------------

    async def test_adapter_connect_is_idempotent(self, tmp_path: Path) -> None:
        """Connecting an open adapter changes nothing."""
        async with self.open_adapter(tmp_path) as adapter:
            assert adapter.is_connected is True, "open_adapter() must yield a connected adapter"
            await granted(locks_of(adapter), "key")
            await adapter.connect()
            assert adapter.is_connected is True
            assert await locks_of(adapter).holder("key"), "connecting twice lost the leases"

    async def test_adapter_disconnect_is_idempotent(self, tmp_path: Path) -> None:
        """Disconnecting a closed adapter changes nothing."""
        async with self.open_adapter(tmp_path) as adapter:
            await adapter.disconnect()
            assert adapter.is_connected is False, "is_connected is True after disconnect()"
            await adapter.disconnect()
            assert adapter.is_connected is False

    async def test_adapter_can_be_reconnected(self, tmp_path: Path) -> None:
        """A reconnected adapter works as before."""
        async with self.open_adapter(tmp_path) as adapter:
            await adapter.disconnect()
            await adapter.connect()
            assert adapter.is_connected is True
            await granted(locks_of(adapter), "key")

    async def test_adapter_refuses_calls_after_disconnect(self, tmp_path: Path) -> None:
        """Every provider and every handle raises `ScopeNotOpen` once the adapter is closed."""
        async with self.open_adapter(tmp_path) as adapter:
            roles = [role for role in LOCK_ROLES if getattr(adapter, role) is not None]
            calls: dict[str, Callable[[], Awaitable[object]]] = {
                operation.name: partial(operation.call, adapter, number)
                for number, operation in enumerate(operations_of(self))
            }
            for role in roles:
                locks = locks_of(adapter, role)
                handle = await granted(locks, f"kept by {role}")
                calls[f"{role}.acquire"] = partial(locks.acquire, "key")
                calls[f"is_valid() of a handle of {role}"] = handle.is_valid
                calls[f"extend() of a handle of {role}"] = partial(handle.extend, "1m")
                calls[f"release() of a handle of {role}"] = handle.release
            await adapter.disconnect()
            for name, call in calls.items():
                try:
                    answer = await call()
                except ScopeNotOpen:
                    continue
                pytest.fail(f"{name} returned {answer!r} after disconnect()")

    @pytest.mark.parametrize("role", LOCK_ROLES)
    async def test_adapter_ends_waits_at_disconnect(self, tmp_path: Path, role: str) -> None:
        """``wait_released`` raises `ScopeNotOpen` when the adapter disconnects."""
        async with self.open_adapter(tmp_path) as adapter:
            locks = getattr(adapter, role)
            if not isinstance(locks, SupportsWait):
                return
            await granted(locks_of(adapter, role), "key", "1h")
            waiting = asyncio.ensure_future(locks.wait_released("key"))
            await run_ticks(5)
            await adapter.disconnect()
            done, _ = await asyncio.wait([waiting], timeout=HANG_S)
            assert done, f"wait_released() of adapter.{role} still waits after disconnect()"
            found = waiting.exception()
            assert isinstance(found, ScopeNotOpen), f"wait_released() ended with {found!r}"

    @pytest.mark.parametrize(
        "prefix", ["shop", "sh op:", "shop::", ":", "shöp:", "a:b:", "shop:\n", "%:", "*:"]
    )
    async def test_adapter_rejects_invalid_prefixes(self, tmp_path: Path, prefix: str) -> None:
        """A prefix is letters, digits, ``_``, ``.`` or ``-``, then one colon."""
        with pytest.raises(ConfigurationError):
            async with self.open_adapter(tmp_path, key_prefix=prefix):
                pytest.fail(f"key_prefix={prefix!r} was accepted")

    @pytest.mark.parametrize("prefix", ["cache:", "circuit:", "collection:", "lock:", "lease:"])
    async def test_adapter_rejects_reserved_prefixes(self, tmp_path: Path, prefix: str) -> None:
        """A prefix must not collide with the namespaces that goscope uses in stored keys."""
        with pytest.raises(ConfigurationError):
            async with self.open_adapter(tmp_path, key_prefix=prefix):
                pytest.fail(f"key_prefix={prefix!r} was accepted")

    @pytest.mark.parametrize("prefix", ["shop:", "a:", "v1.2-beta_3:"])
    async def test_adapter_accepts_valid_prefixes(self, tmp_path: Path, prefix: str) -> None:
        """The program never sees the prefix in a key."""
        async with self.open_adapter(tmp_path, key_prefix=prefix) as adapter:
            assert (await granted(locks_of(adapter), "key")).key == "key"
            assert await locks_of(adapter).holder("key")


def members(protocol: type[Any]) -> Iterator[str]:
    """The public names that a Protocol declares."""
    return (name for name in vars(protocol) if not name.startswith("_"))


def missing_methods(provider: object, protocol: type[Any]) -> Iterator[str]:
    """The methods of the Protocol that the provider lacks, or that are not coroutines."""
    for name in members(protocol):
        method = getattr(provider, name, None)
        must_be_coroutine = iscoroutinefunction(getattr(protocol, name))
        if not callable(method) or (must_be_coroutine and not iscoroutinefunction(method)):
            yield name
