"""The contract of `goscope.providers.SupportsEvents`, an optional ability of an adapter."""

from __future__ import annotations

from pathlib import Path

from ...events import CacheCorrupt, Event
from ...providers import PersistenceAdapter, SupportsEvents
from ._base import Conformance, cache_of


class EventsConformance(Conformance, abstract=True):
    """The adapter sends events that only its providers can see to its observer."""

    async def test_events_report_entries_that_do_not_decode(self, tmp_path: Path) -> None:
        """Each lookup of such an entry emits an event with the key, without its prefix."""
        async with self.open_adapter(tmp_path, key_prefix="shop:") as adapter:
            events: list[Event] = []
            events_of(adapter).observe(events.append)
            cache = cache_of(adapter)
            await cache.set("key", "text")
            await cache.get("key", type=int)
            await cache.get_many(["key"], type=int)
            await cache.get_entry("key", type=int)
            assert [type(event) for event in events] == [CacheCorrupt] * 3
            assert [event.key for event in events] == ["key"] * 3

    async def test_events_do_not_report_hits_and_misses(self, tmp_path: Path) -> None:
        """The adapter emits no event for hits, misses and expired entries."""
        async with self.open_adapter(tmp_path) as adapter:
            events: list[Event] = []
            events_of(adapter).observe(events.append)
            cache = cache_of(adapter)
            await cache.set("key", 1, "500ms")
            await cache.get("key", type=int)
            await self.advance(adapter, "600ms")
            await cache.get("key", type=int)
            await cache.get("absent", type=int)
            assert events == []

    async def test_events_go_to_the_last_observer_only(self, tmp_path: Path) -> None:
        """A new observer replaces the old one, and None removes it."""
        async with self.open_adapter(tmp_path) as adapter:
            old: list[Event] = []
            new: list[Event] = []
            cache = cache_of(adapter)
            await cache.set("key", "text")
            for emit in (old.append, new.append, None):
                events_of(adapter).observe(emit)
                await cache.get("key", type=int)
            assert (len(old), len(new)) == (1, 1)


def events_of(adapter: PersistenceAdapter) -> SupportsEvents:
    assert isinstance(adapter, SupportsEvents), "the adapter has no observe()"
    return adapter
