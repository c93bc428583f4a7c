"""The contract between the features: each has its own namespace."""

from __future__ import annotations

from pathlib import Path

import pytest

from ...providers import CircuitBreakerState
from ._base import Conformance, cache_of, circuits_of, idempotency_of, locks_of
from ._locks import granted


class FeaturesConformance(Conformance, abstract=True):
    """The same key in two features names two records."""

    async def test_features_do_not_share_keys(self, tmp_path: Path) -> None:
        """A record of one feature does not affect a record of another with the same key."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", "cached")
            await circuits_of(adapter).set_state("key", CircuitBreakerState(failure_count=3))
            await idempotency_of(adapter).set("key", "result")
            await granted(locks_of(adapter), "key")
            assert await cache_of(adapter).get("key") == "cached"
            state = await circuits_of(adapter).get_state("key")
            assert state == CircuitBreakerState(failure_count=3)
            record = await idempotency_of(adapter).get("key")
            assert record is not None
            assert record.value == "result"

    @pytest.mark.parametrize("word", ["cache:", "circuit:", "collection:", "lock:", "lease:"])
    async def test_features_idempotency_keys_may_look_like_stored_ones(
        self, tmp_path: Path, word: str
    ) -> None:
        """A result with a key that equals another feature's stored key does not affect it."""
        async with self.open_adapter(tmp_path) as adapter:
            await cache_of(adapter).set("key", "cached")
            await circuits_of(adapter).record_failure("key", 1)
            await granted(locks_of(adapter, "lock"), "key")
            await granted(locks_of(adapter), "key")
            await idempotency_of(adapter).set(f"{word}key", "result")
            await idempotency_of(adapter).delete(f"{word}key")
            assert await cache_of(adapter).get("key") == "cached"
            assert await circuits_of(adapter).get_state("key")
            assert await locks_of(adapter, "lock").holder("key")
            assert await locks_of(adapter).holder("key")
