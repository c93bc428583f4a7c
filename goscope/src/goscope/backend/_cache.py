"""Base class of cache providers: keys, prefix, durations and JSON; the backend keeps texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Final, NamedTuple, TypeVar

from .._tools.codec import DecodeError, decode
from .._tools.duration import milliseconds
from .._tools.key import check_key, check_pattern
from .._tools.loop_budget import LoopBudget
from ..errors import CorruptValue
from ..events import CacheCorrupt
from ..providers import CacheEntry, CacheStats, LockHandle, Milliseconds
from ._context import Fence, StoreContext

T = TypeVar("T")

PAGE_SIZE: Final = 1000
"""How many keys are read from the store at a time."""

ITEMS_PER_YIELD_CHECK: Final = 10
"""How many values are encoded or decoded between two checks of the loop budget."""


class StoredEntry(NamedTuple):
    """A cache entry as a backend keeps it; times in epoch milliseconds, None for never."""

    text: str
    expires_at: int | None = None
    stale_until: int | None = None
    tags: tuple[str, ...] = ()

    def is_live(self, now: int) -> bool:
        return self.expires_at is None or self.expires_at > now

    def is_kept(self, now: int) -> bool:
        """Whether the entry may still be served, if only as stale."""
        return self.is_live(now) or (self.stale_until is not None and self.stale_until > now)

    def moved_to(self, expires_at: int | None) -> StoredEntry:
        """The entry with another expiry; it may be served stale for as long as before."""
        if expires_at is None or self.expires_at is None or self.stale_until is None:
            return self._replace(expires_at=expires_at, stale_until=None)
        stale_for = self.stale_until - self.expires_at
        return self._replace(expires_at=expires_at, stale_until=expires_at + stale_for)


class BaseCacheProvider(ABC):
    """A cache of texts: fill in the abstract primitives.

    ``_update`` and ``_set`` must be atomic. The primitives with a body build on the others; a
    backend overrides them where it has something faster. All take the stored key, which is the
    prefix, ``cache:`` and the key. ``now`` is the wall time in epoch milliseconds.
    """

    def __init__(self, context: StoreContext) -> None:
        self.context: Final = context
        self._namespace: Final = f"{context.prefix}cache:"
        self._hits = 0
        self._misses = 0
        self._budget = LoopBudget()

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        text = await self._get(self._stored(key), self.context.clock.wall_ms())
        if text is None:
            self._misses += 1
            return default
        try:
            value = decode(text, type)
        except DecodeError as exc:
            self._misses += 1
            self._report_corrupt(key, exc)
            return default
        self._hits += 1
        return value

    async def set(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        tags: Sequence[str] = (),
        stale_for: Milliseconds | None = None,
        fence: LockHandle | None = None,
    ) -> None:
        stored = self._stored(key)
        entry = self._entry(value, ttl, tags, stale_for)
        await self._set({stored: entry}, self.context.fence(fence))

    async def add(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        fence: LockHandle | None = None,
    ) -> bool:
        stored = self._stored(key)
        entry = self._entry(value, ttl)
        now = self.context.clock.wall_ms()
        return await self._add(stored, entry, now, self.context.fence(fence))

    async def delete(self, key: str, *, fence: LockHandle | None = None) -> bool:
        now = self.context.clock.wall_ms()
        return await self._delete([self._stored(key)], now, self.context.fence(fence)) > 0

    async def has(self, key: str) -> bool:
        return await self._get(self._stored(key), self.context.clock.wall_ms()) is not None

    async def clear(self, pattern: str | None = None) -> None:
        await self._clear(self._stored_pattern(pattern))

    async def keys(self, pattern: str | None = None) -> Sequence[str]:
        return [key async for key in self.scan(pattern)]

    async def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        stored_pattern = self._stored_pattern(pattern)
        strip = len(self._namespace)
        after = ""
        while True:
            now = self.context.clock.wall_ms()
            page = await self._page(stored_pattern, after, PAGE_SIZE, now)
            for stored in page:
                yield stored[strip:]
            if len(page) < PAGE_SIZE:
                return
            after = page[-1]

    async def get_many(self, keys: Sequence[str], *, type: Any = None) -> Mapping[str, Any]:
        wanted = {self._stored(key): key for key in _sequence(keys, "keys")}
        texts = await self._get_many(list(wanted), self.context.clock.wall_ms())
        values: dict[str, Any] = {}
        async for stored, text in self._cooperatively(texts.items()):
            key = wanted[stored]
            try:
                values[key] = decode(text, type)
            except DecodeError as exc:
                self._report_corrupt(key, exc)
        self._hits += len(values)
        self._misses += len(wanted) - len(values)
        return values

    async def set_many(self, values: Mapping[str, Any], ttl: Milliseconds | None = None) -> None:
        entries = {
            self._stored(key): self._entry(value, ttl)
            async for key, value in self._cooperatively(list(values.items()))
        }
        if entries:
            await self._set(entries, None)

    async def delete_many(self, keys: Sequence[str]) -> int:
        stored = [self._stored(key) for key in dict.fromkeys(_sequence(keys, "keys"))]
        return await self._delete(stored, self.context.clock.wall_ms(), None) if stored else 0

    async def touch(self, key: str, ttl: Milliseconds | None) -> bool:
        stored = self._stored(key)
        now = self.context.clock.wall_ms()
        return await self._touch(stored, _expiry(ttl, now), now)

    async def increment(self, key: str, by: int = 1, ttl: Milliseconds | None = None) -> int:
        if type(by) is not int:
            raise TypeError(f"by must be an int, not {type(by).__name__}")
        stored = self._stored(key)
        now = self.context.clock.wall_ms()
        try:
            return await self._increment(stored, by, _expiry(ttl, now), now)
        except DecodeError as exc:
            raise CorruptValue(key, str(exc)) from exc

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        now = self.context.clock.wall_ms()
        entry = await self._get_entry(self._stored(key))
        if entry is None or not entry.is_kept(now):
            return None
        try:
            value = decode(entry.text, type)
        except DecodeError as exc:
            self._report_corrupt(key, exc)
            return None
        return CacheEntry(
            value=value,
            expires_at=entry.expires_at,
            stale_until=entry.stale_until,
            is_stale=not entry.is_live(now),
        )

    async def delete_by_tag(self, tag: str) -> int:
        return await self._delete_by_tag(self._stored_tag(tag), self.context.clock.wall_ms())

    async def stats(self) -> CacheStats:
        now = self.context.clock.wall_ms()
        entries = await self._count(self._namespace, now)
        return CacheStats(entries=entries, hits=self._hits, misses=self._misses)

    async def prune(self) -> int:
        return await self._prune(self._namespace, self.context.clock.wall_ms())

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _get_entry(self, key: str) -> StoredEntry | None:
        """The entry as stored, expired or not."""

    @abstractmethod
    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
    ) -> None:
        """Replace the entry by ``change(entry)``, atomically; None removes it.

        ``change`` may be called more than once. If it raises, the error is raised and nothing is
        changed. With a fence that is not current, raise ``lease_lost(fence)`` instead.
        """

    @abstractmethod
    async def _page(self, pattern: str, after: str, limit: int, now: int) -> list[str]:
        """The next ``limit`` live keys greater than ``after`` that match, sorted."""

    @abstractmethod
    async def _tagged(self, tag: str) -> list[str]:
        """The keys of the entries that carry the tag."""

    @abstractmethod
    async def _count(self, namespace: str, now: int) -> int:
        """The number of live keys that begin with the namespace."""

    @abstractmethod
    async def _prune(self, namespace: str, now: int) -> int:
        """Remove the entries of the namespace that can no longer be served; how many."""

    async def _get(self, key: str, now: int) -> str | None:
        """The text of a live entry."""
        entry = await self._get_entry(key)
        return entry.text if entry is not None and entry.is_live(now) else None

    async def _get_many(self, keys: list[str], now: int) -> dict[str, str]:
        """The texts of those entries that are live."""
        found = {key: await self._get(key, now) for key in keys}
        return {key: text for key, text in found.items() if text is not None}

    @abstractmethod
    async def _set(self, entries: Mapping[str, StoredEntry], fence: Fence | None) -> None:
        """Store all entries, or none of them."""

    async def _add(self, key: str, entry: StoredEntry, now: int, fence: Fence | None) -> bool:
        """Store the entry unless a live one is present; whether it was stored."""
        added = False

        def change(old: StoredEntry | None) -> StoredEntry:
            nonlocal added
            added = old is None or not old.is_live(now)
            return entry if old is None or added else old

        await self._update(key, change, fence)
        return added

    async def _delete(self, keys: list[str], now: int, fence: Fence | None) -> int:
        """Remove the entries; how many of them were live."""
        deleted = 0
        for key in keys:
            found = False

            def change(old: StoredEntry | None) -> None:
                nonlocal found
                found = old is not None and old.is_live(now)

            await self._update(key, change, fence)
            deleted += found
        return deleted

    async def _touch(self, key: str, expires_at: int | None, now: int) -> bool:
        """Give a live entry a new expiry; whether there was one."""
        touched = False

        def change(old: StoredEntry | None) -> StoredEntry | None:
            nonlocal touched
            touched = old is not None and old.is_live(now)
            if old is None or not touched:
                return old
            return old.moved_to(expires_at)

        await self._update(key, change, None)
        return touched

    async def _increment(self, key: str, by: int, expires_at: int | None, now: int) -> int:
        """Add to the integer, which starts at 0 with that expiry when absent; the new value."""
        total = by

        def change(old: StoredEntry | None) -> StoredEntry:
            nonlocal total
            if old is None or not old.is_live(now):
                total = by
                return StoredEntry(self.context.encode(by), expires_at)
            total = parse_counter(old.text) + by
            return old._replace(text=self.context.encode(total))

        await self._update(key, change, None)
        return total

    async def _clear(self, pattern: str) -> None:
        """Remove all keys that match."""
        while page := await self._page(pattern, "", PAGE_SIZE, -1):
            await self._delete(page, 0, None)

    async def _delete_by_tag(self, tag: str, now: int) -> int:
        """Remove the entries that carry the tag; how many of them were live."""
        keys = await self._tagged(tag)
        return await self._delete(keys, now, None) if keys else 0

    # --- helpers -----------------------------------------------------------------------------

    async def _cooperatively(self, items: Iterable[T]) -> AsyncIterator[T]:
        """Iterate over the items, yielding to the event loop when its budget is exhausted."""
        for number, item in enumerate(items):
            if number % ITEMS_PER_YIELD_CHECK == 0 and self._budget.exhausted(perf_counter()):
                await self._budget.wait()
            yield item

    def _stored(self, key: str) -> str:
        return self._namespace + check_key(key)

    def _stored_pattern(self, pattern: str | None) -> str:
        return self._namespace + ("*" if pattern is None else check_pattern(pattern))

    def _stored_tag(self, tag: str) -> str:
        return self.context.prefix + check_key(tag, "tag")

    def _entry(
        self,
        value: Any,
        ttl: Milliseconds | None,
        tags: Sequence[str] = (),
        stale_for: Milliseconds | None = None,
    ) -> StoredEntry:
        if not tags and stale_for is None:
            now = self.context.clock.wall_ms()
            return StoredEntry(self.context.encode(value), _expiry(ttl, now))
        stored_tags = tuple(self._stored_tag(tag) for tag in dict.fromkeys(_sequence(tags, "tags")))
        expires_at = _expiry(ttl, self.context.clock.wall_ms())
        if stale_for is None:
            return StoredEntry(self.context.encode(value), expires_at, None, stored_tags)
        if expires_at is None:
            raise ValueError("stale_for needs a ttl: an entry without expiry never becomes stale")
        stale_until = expires_at + milliseconds(stale_for, "stale_for")
        return StoredEntry(self.context.encode(value), expires_at, stale_until, stored_tags)

    def _report_corrupt(self, key: str, exc: DecodeError) -> None:
        if self.context.emit is not None:
            self.context.emit(CacheCorrupt(key=key, reason=str(exc)))


def parse_counter(text: str) -> int:
    """The integer that a counter holds. Raises `DecodeError` for anything else."""
    value = decode(text)
    if type(value) is not int:
        raise DecodeError(f"a counter must be an integer, not {text[:40]!r}")
    return value


def _expiry(ttl: Milliseconds | None, now: int) -> int | None:
    return None if ttl is None else now + milliseconds(ttl, "ttl")


def _sequence(items: Sequence[str], what: str) -> Sequence[str]:
    if isinstance(items, str):
        raise TypeError(f"{what} must be a sequence of strings, not one string: [{items!r}]")
    return items
