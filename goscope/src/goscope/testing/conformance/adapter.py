"""The contract of `goscope.PersistenceAdapter`, and of what a test class declares about it."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from ...errors import ConfigurationError
from ...providers import (
    CacheProvider,
    Capability,
    CheckpointProvider,
    CircuitBreakerStateProvider,
    IdempotencyProvider,
    LockProvider,
    PersistenceAdapter,
    SupportsEvents,
    SupportsInspection,
    SupportsWait,
)
from ._base import Conformance, locks_of
from .cache import CacheConformance
from .checkpoint import CheckpointConformance
from .circuit_breaker import CircuitBreakerConformance
from .events import EventsConformance
from .idempotency import IdempotencyConformance
from .inspection import InspectionConformance
from .lock import LockConformance, granted
from .wait import WaitConformance


class Ability(NamedTuple):
    """An attribute of the adapter, its Protocol, and the part of the contract that tests it.

    The attribute "" is the adapter itself.
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
)


class AdapterConformance(Conformance, abstract=True):
    """An adapter connects, disconnects, and is what the test class says it is."""

    # --- what it claims ----------------------------------------------------------------------

    async def test_adapter_it_is_a_persistence_adapter(self, tmp_path: Path) -> None:
        """The adapter has all the members of the Protocol."""
        async with self.open_adapter(tmp_path) as adapter:
            missing = [name for name in members(PersistenceAdapter) if not hasattr(adapter, name)]
            assert missing == [], f"the adapter lacks {missing}"
            assert isinstance(adapter, PersistenceAdapter)

    async def test_adapter_its_capabilities_are_the_declared_ones(self, tmp_path: Path) -> None:
        """What the adapter promises is what the test class declares, no more and no less."""
        async with self.open_adapter(tmp_path) as adapter:
            found, declared = adapter.capabilities, self.capabilities
            assert found == declared, f"declared: {_names(declared)}, found: {_names(found)}"
            assert isinstance(adapter.capabilities, frozenset)

    async def test_adapter_persistence_is_declared_as_it_is(self, tmp_path: Path) -> None:
        """What was written is there after reopening if and only if PERSISTENT is declared."""
        async with self.open_adapter(tmp_path) as adapter:
            before = (await granted(locks_of(adapter), "key")).owner
        async with self.open_adapter(tmp_path) as adapter:
            holder = await locks_of(adapter).holder("key")
            found = holder is not None and holder.owner == before
            declared = Capability.PERSISTENT in self.capabilities
            assert found == declared, f"PERSISTENT is declared: {declared}, found: {found}"

    async def test_adapter_distributed_locks_are_shared_locks(self, tmp_path: Path) -> None:
        """Who excludes other machines excludes other processes too."""
        async with self.open_adapter(tmp_path) as adapter:
            distributed = Capability.DISTRIBUTED in adapter.capabilities
            assert not distributed or Capability.SHARED_LOCKS in adapter.capabilities

    async def test_adapter_wakeups_need_a_way_to_wait(self, tmp_path: Path) -> None:
        """Who promises wake-ups has ``wait_released``."""
        async with self.open_adapter(tmp_path) as adapter:
            wakeups = Capability.NOTIFICATIONS in adapter.capabilities
            assert not wakeups or isinstance(adapter.lease, SupportsWait)

    @pytest.mark.parametrize("ability", ABILITIES, ids=[it.attribute for it in ABILITIES])
    async def test_adapter_each_ability_is_claimed_and_complete(
        self, tmp_path: Path, ability: Ability
    ) -> None:
        """A provider has every method of its Protocol, and a class that tests it; or neither."""
        async with self.open_adapter(tmp_path) as adapter:
            provider = getattr(adapter, ability.attribute)
            claimed = isinstance(self, ability.contract)
            contract = ability.contract.__name__
            if provider is None:
                assert not claimed, f"{contract} is inherited, adapter.{ability.attribute} is None"
                return
            assert claimed, f"adapter.{ability.attribute} is there: inherit {contract} too"
            missing = list(broken_methods(provider, ability.protocol))
            assert missing == [], f"adapter.{ability.attribute} lacks the coroutines {missing}"

    async def test_adapter_lease_and_one_other_are_the_minimum(self, tmp_path: Path) -> None:
        """Every feature stands on leases, and leases alone are no backend."""
        async with self.open_adapter(tmp_path) as adapter:
            assert adapter.lease is not None, "adapter.lease is None: no feature works without it"
            others = [it.attribute for it in ABILITIES if it.attribute != "lease"]
            assert any(getattr(adapter, name) is not None for name in others)

    @pytest.mark.parametrize("option", OPTIONS, ids=[it.protocol.__name__ for it in OPTIONS])
    async def test_adapter_each_optional_ability_is_claimed(
        self, tmp_path: Path, option: Ability
    ) -> None:
        """An ability that is offered has a class that tests it; one that is not has none."""
        async with self.open_adapter(tmp_path) as adapter:
            owner = getattr(adapter, option.attribute) if option.attribute else adapter
            offered, claimed = isinstance(owner, option.protocol), isinstance(self, option.contract)
            contract = option.contract.__name__
            assert claimed or not offered, f"{owner!r} offers what {contract} tests: inherit it too"
            assert offered or not claimed, f"{contract} is inherited, {owner!r} does not offer it"

    # --- connecting --------------------------------------------------------------------------

    async def test_adapter_connecting_twice_does_nothing(self, tmp_path: Path) -> None:
        """An adapter that is open stays as it is."""
        async with self.open_adapter(tmp_path) as adapter:
            assert adapter.is_connected is True, "open_adapter() must yield a connected adapter"
            await granted(locks_of(adapter), "key")
            await adapter.connect()
            assert adapter.is_connected is True
            assert await locks_of(adapter).holder("key"), "connecting twice lost the leases"

    async def test_adapter_disconnecting_twice_does_nothing(self, tmp_path: Path) -> None:
        """An adapter that is closed stays closed."""
        async with self.open_adapter(tmp_path) as adapter:
            await adapter.disconnect()
            assert adapter.is_connected is False, "a closed adapter says it is connected"
            await adapter.disconnect()
            assert adapter.is_connected is False

    async def test_adapter_an_adapter_can_be_connected_again(self, tmp_path: Path) -> None:
        """After closing and opening it works as before."""
        async with self.open_adapter(tmp_path) as adapter:
            await adapter.disconnect()
            await adapter.connect()
            assert adapter.is_connected is True
            await granted(locks_of(adapter), "key")

    @pytest.mark.parametrize(
        "prefix", ["shop", "sh op:", "shop::", ":", "shöp:", "a:b:", "shop:\n", "%:", "*:"]
    )
    async def test_adapter_bad_prefixes_are_refused(self, tmp_path: Path, prefix: str) -> None:
        """A prefix is letters, digits, ``_``, ``.`` or ``-``, then one colon."""
        with pytest.raises(ConfigurationError):
            async with self.open_adapter(tmp_path, key_prefix=prefix):
                pytest.fail(f"key_prefix={prefix!r} was accepted")

    @pytest.mark.parametrize("prefix", ["cache:", "circuit:", "lock:", "lease:"])
    async def test_adapter_reserved_prefixes_are_refused(self, tmp_path: Path, prefix: str) -> None:
        """goscope's own words would mix with the names it uses itself."""
        with pytest.raises(ConfigurationError):
            async with self.open_adapter(tmp_path, key_prefix=prefix):
                pytest.fail(f"key_prefix={prefix!r} was accepted")

    @pytest.mark.parametrize("prefix", ["shop:", "a:", "v1.2-beta_3:"])
    async def test_adapter_prefixes_are_accepted(self, tmp_path: Path, prefix: str) -> None:
        """A prefix that is one does not change what the program sees."""
        async with self.open_adapter(tmp_path, key_prefix=prefix) as adapter:
            assert (await granted(locks_of(adapter), "key")).key == "key"
            assert await locks_of(adapter).holder("key")


def _names(capabilities: frozenset[Capability]) -> list[str]:
    return sorted(capability.name for capability in capabilities)


def members(protocol: type[Any]) -> Iterator[str]:
    """The public names a Protocol declares."""
    return (name for name in vars(protocol) if not name.startswith("_"))


def broken_methods(provider: object, protocol: type[Any]) -> Iterator[str]:
    """The methods of the Protocol that the provider lacks, or has as plain functions."""
    for name in members(protocol):
        method = getattr(provider, name, None)
        must_be_coroutine = iscoroutinefunction(getattr(protocol, name))
        if not callable(method) or (must_be_coroutine and not iscoroutinefunction(method)):
            yield name
