"""The contract of ``adapter.capabilities``."""

from __future__ import annotations

from pathlib import Path

from ...providers import Capability, SupportsWait
from ._base import Conformance, locks_of
from ._locks import granted


class CapabilityConformance(Conformance, abstract=True):
    """An adapter has the capabilities that the test class declares, and no others."""

    async def test_adapter_has_the_declared_capabilities(self, tmp_path: Path) -> None:
        """The adapter's capabilities are those of the test class, no more and no fewer."""
        async with self.open_adapter(tmp_path) as adapter:
            found, declared = adapter.capabilities, self.capabilities
            assert found == declared, f"declared: {_names(declared)}, found: {_names(found)}"
            assert isinstance(adapter.capabilities, frozenset)

    async def test_adapter_is_persistent_as_declared(self, tmp_path: Path) -> None:
        """A record is still there after reopening if and only if PERSISTENT is declared."""
        async with self.open_adapter(tmp_path) as adapter:
            before = (await granted(locks_of(adapter), "key")).owner
        async with self.open_adapter(tmp_path) as adapter:
            holder = await locks_of(adapter).holder("key")
            found = holder is not None and holder.owner == before
            declared = Capability.PERSISTENT in self.capabilities
            assert found == declared, f"PERSISTENT is declared: {declared}, found: {found}"

    async def test_adapter_with_distributed_locks_has_shared_locks(self, tmp_path: Path) -> None:
        """A lock that excludes other machines excludes other processes too."""
        async with self.open_adapter(tmp_path) as adapter:
            distributed = Capability.DISTRIBUTED in adapter.capabilities
            assert not distributed or Capability.SHARED_LOCKS in adapter.capabilities

    async def test_adapter_with_notifications_supports_waiting(self, tmp_path: Path) -> None:
        """An adapter with NOTIFICATIONS has ``wait_released``."""
        async with self.open_adapter(tmp_path) as adapter:
            notifies = Capability.NOTIFICATIONS in adapter.capabilities
            assert not notifies or isinstance(adapter.lease, SupportsWait)


def _names(capabilities: frozenset[Capability]) -> list[str]:
    return sorted(capability.name for capability in capabilities)
