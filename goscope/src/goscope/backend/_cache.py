"""Base class of cache providers: keys, prefix, durations and JSON; the backend keeps texts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from copy import copy
from typing import Any, Final, NamedTuple, Self

from .._tools.codec import DecodeError, decode
from .._tools.duration import milliseconds
from .._tools.key import check_collection, check_key, check_pattern
from .._tools.load_owner import tag_mark
from .._tools.loop_budget import LoopBudget
from .._tools.notifier import KeyedNotifier
from ..errors import CorruptValue
from ..events import CacheCorrupt
from ..providers import CacheEntry, CacheStats, LockHandle, Milliseconds
from ._context import Fence, StoreContext

PAGE_SIZE: Final = 1000
"""How many keys are read from the store at a time."""


class StoredEntry(NamedTuple):
    """A cache entry as a backend keeps it; epoch milliseconds of the store, None for never."""

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


class NewEntry(NamedTuple):
    """A cache entry to write; durations in milliseconds, None for never."""

    text: str
    ttl_ms: int | None = None
    stale_for_ms: int | None = None
    tags: tuple[str, ...] = ()

    def written_at(self, now: int) -> StoredEntry:
        """The entry as stored at ``now``, in epoch milliseconds."""
        if self.ttl_ms is None:
            return StoredEntry(self.text, None, None, self.tags)
        expires_at = now + self.ttl_ms
        stale_until = None if self.stale_for_ms is None else expires_at + self.stale_for_ms
        return StoredEntry(self.text, expires_at, stale_until, self.tags)


class BaseCacheProvider(ABC):
    """A cache of texts: fill in the abstract primitives.

    ``_update`` and ``_set`` must be atomic. The primitives with a body build on the others and
    measure time on the clock of the context; a backend overrides them where it has something
    faster. All take the stored key, which is the prefix, ``cache:`` and the key. They take
    durations, never times: whether an entry is live is decided on the clock of the store.

    In a collection the stored key is the prefix, ``collection:``, the name, a colon and the key. A
    primitive keeps to the keys, patterns and namespaces that it is given, and to ``_namespace``; so
    it serves the cache and all collections.

    A value that is being computed is guarded by the lease `load_lease`, and its ``_set`` has that
    lease as its fence. A primitive that stores or removes an entry ends the lease in the same
    transaction, also when the entry is absent, so that a value whose computation began earlier is
    never stored. A lease that is the fence of the write itself stays. ``lease_notifier`` is the one
    of the adapter's ``lease``.
    """

    def __init__(self, context: StoreContext, lease_notifier: KeyedNotifier) -> None:
        self.context: Final = context
        self._lease_notifier = lease_notifier
        self._collection = ""
        self._namespace = f"{context.prefix}cache:"
        self._hits = 0
        self._misses = 0
        self._budget = LoopBudget()

    def collection(self, name: str) -> Self:
        other = copy(self)
        other._collection = check_collection(name)
        other._namespace = f"{self.context.prefix}collection:{name}:"
        other._hits = other._misses = 0
        return other

    async def get(self, key: str, default: Any = None, *, type: Any = None) -> Any:
        text = await self._get(self._stored(key))
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
        self._notify([stored])

    async def add(
        self,
        key: str,
        value: Any,
        ttl: Milliseconds | None = None,
        *,
        fence: LockHandle | None = None,
    ) -> bool:
        stored = self._stored(key)
        added = await self._add(stored, self._entry(value, ttl), self.context.fence(fence))
        if added:
            self._notify([stored])
        return added

    async def delete(self, key: str, *, fence: LockHandle | None = None) -> bool:
        stored = [self._stored(key)]
        deleted = await self._delete(stored, self.context.fence(fence))
        self._notify(stored)
        return deleted > 0

    async def has(self, key: str) -> bool:
        return await self._has(self._stored(key))

    async def clear(self, pattern: str | None = None) -> None:
        stored = self._stored_pattern(pattern)
        await self._end_all_loads(stored, None)
        await self._clear(stored)

    async def keys(self, pattern: str | None = None) -> Sequence[str]:
        return [key async for key in self.scan(pattern)]

    async def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        stored_pattern = self._stored_pattern(pattern)
        strip = len(self._namespace)
        after = ""
        while True:
            page = await self._page(stored_pattern, after, PAGE_SIZE)
            for stored in page:
                yield stored[strip:]
            if len(page) < PAGE_SIZE:
                return
            after = page[-1]

    async def get_many(self, keys: Sequence[str], *, type: Any = None) -> Mapping[str, Any]:
        wanted = {self._stored(key): key for key in _sequence(keys, "keys")}
        texts = await self._get_many(list(wanted))
        values: dict[str, Any] = {}
        async for stored, text in self._budget.cooperatively(texts.items()):
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
            async for key, value in self._budget.cooperatively(list(values.items()))
        }
        if entries:
            await self._set(entries, None)
            self._notify(entries)

    async def delete_many(self, keys: Sequence[str]) -> int:
        stored = [self._stored(key) for key in dict.fromkeys(_sequence(keys, "keys"))]
        if not stored:
            return 0
        deleted = await self._delete(stored, None)
        self._notify(stored)
        return deleted

    async def touch(self, key: str, ttl: Milliseconds | None) -> bool:
        return await self._touch(self._stored(key), _ttl_ms(ttl))

    async def increment(self, key: str, by: int = 1, ttl: Milliseconds | None = None) -> int:
        if type(by) is not int:
            raise TypeError(f"by must be an int, not {type(by).__name__}")
        stored = self._stored(key)
        try:
            total = await self._increment(stored, by, _ttl_ms(ttl))
        except DecodeError as exc:
            raise CorruptValue(key, str(exc)) from exc
        self._notify([stored])
        return total

    async def get_entry(self, key: str, *, type: Any = None) -> CacheEntry | None:
        stored = self._stored(key)
        try:
            found = await self._get_entry(stored)
            if found is None:
                return None
            entry, now = found
            if not entry.is_kept(now):
                return None
            value = decode(entry.text, type)
        except DecodeError as exc:
            self._report_corrupt(key, exc)
            return None
        return CacheEntry(
            value=value,
            expires_at=entry.expires_at,
            stale_until=entry.stale_until,
            is_stale=not entry.is_live(now),
            expires_in_ms=None if entry.expires_at is None else entry.expires_at - now,
        )

    async def delete_by_tag(self, tag: str) -> int:
        stored = self._stored_tag(tag)
        await self._end_all_loads(f"{self._namespace}*", tag_mark(tag))
        return await self._delete_by_tag(stored)

    async def stats(self) -> CacheStats:
        entries = await self._count(self._namespace)
        return CacheStats(entries=entries, hits=self._hits, misses=self._misses)

    async def prune(self) -> int:
        return await self._prune(self._namespace)

    # --- primitives --------------------------------------------------------------------------

    @abstractmethod
    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        """The entry as stored, expired or not, and the store's time of this read.

        Raises `DecodeError` for an entry whose expiry cannot be read either.
        """

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
        *,
        ends_load: bool = True,
    ) -> None:
        """Replace the entry by ``change(entry)``, atomically; None removes it.

        ``change`` may be called more than once. If it raises, the error is raised and nothing is
        changed. With a fence that is not current, raise ``lease_lost(fence)`` instead. With
        ``ends_load``, also end the key's load lease, unless ``change`` returns the very entry.

        Needed unless ``_add``, ``_delete``, ``_touch`` and ``_increment`` are all overridden.
        """
        raise NotImplementedError

    @abstractmethod
    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        """End every lease whose stored key matches the pattern; the stored keys of those leases.

        With a mark, only those whose owner has it, see `owner_has`.
        """

    async def _has(self, key: str) -> bool:
        """Whether there is a live entry; override it to leave a long value where it is."""
        return await self._get(key) is not None

    @abstractmethod
    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        """The next ``limit`` live keys greater than ``after`` that match, sorted.

        ``with_expired`` is True to list also those that have expired.
        """

    async def _tagged(self, tag: str) -> list[str]:
        """The keys of the entries that carry the tag. Needed unless ``_delete_by_tag`` is."""
        raise NotImplementedError

    @abstractmethod
    async def _count(self, namespace: str) -> int:
        """The number of live keys that begin with the namespace."""

    @abstractmethod
    async def _prune(self, namespace: str) -> int:
        """Remove the entries of the namespace that can no longer be served; how many."""

    async def _get(self, key: str) -> str | None:
        """The text of a live entry."""
        found = await self._get_entry(key)
        if found is None:
            return None
        entry, now = found
        return entry.text if entry.is_live(now) else None

    async def _get_many(self, keys: list[str]) -> dict[str, str]:
        """The texts of those entries that are live."""
        found = {key: await self._get(key) for key in keys}
        return {key: text for key, text in found.items() if text is not None}

    @abstractmethod
    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        """Store all entries, or none of them."""

    async def _add(self, key: str, entry: NewEntry, fence: Fence | None) -> bool:
        """Store the entry unless a live one is present; whether it was stored."""
        added = False

        def change(old: StoredEntry | None) -> StoredEntry:
            nonlocal added
            now = self.context.clock.wall_ms()
            added = old is None or not old.is_live(now)
            return entry.written_at(now) if old is None or added else old

        await self._update(key, change, fence)
        return added

    async def _delete(self, keys: list[str], fence: Fence | None) -> int:
        """Remove the entries; how many of them were live."""
        deleted = 0
        for key in keys:
            found = False

            def change(old: StoredEntry | None) -> None:
                nonlocal found
                found = old is not None and old.is_live(self.context.clock.wall_ms())

            await self._update(key, change, fence)
            deleted += found
        return deleted

    async def _touch(self, key: str, ttl_ms: int | None) -> bool:
        """Give a live entry a new expiry; whether there was one."""
        touched = False

        def change(old: StoredEntry | None) -> StoredEntry | None:
            nonlocal touched
            now = self.context.clock.wall_ms()
            touched = old is not None and old.is_live(now)
            if old is None or not touched:
                return old
            return old.moved_to(None if ttl_ms is None else now + ttl_ms)

        await self._update(key, change, None, ends_load=False)
        return touched

    async def _increment(self, key: str, by: int, ttl_ms: int | None) -> int:
        """Add to the integer, which starts at 0 with that ttl when absent; the new value."""
        total = by

        def change(old: StoredEntry | None) -> StoredEntry:
            nonlocal total
            now = self.context.clock.wall_ms()
            if old is None or not old.is_live(now):
                total = by
                return NewEntry(self.context.encode(by), ttl_ms).written_at(now)
            total = parse_counter(old.text) + by
            return old._replace(text=self.context.encode(total))

        await self._update(key, change, None)
        return total

    async def _clear(self, pattern: str) -> None:
        """Remove all keys that match."""
        while page := await self._page(pattern, "", PAGE_SIZE, with_expired=True):
            await self._delete(page, None)

    async def _delete_by_tag(self, tag: str) -> int:
        """Remove the entries that carry the tag; how many of them were live."""
        # Without a prefix, a tag may have the name of another scope's tag with its prefix.
        keys = [key for key in await self._tagged(tag) if key.startswith(self._namespace)]
        return await self._delete(keys, None) if keys else 0

    # --- helpers -----------------------------------------------------------------------------

    def load_lease(self, key: str) -> str:
        """The stored key of the lease that guards the computation of a value.

        It is the lease ``cache:{key}``, or ``collection:{name}:{key}``. Takes a stored key, or a
        pattern of stored keys.
        """
        prefix = self.context.prefix
        return f"{prefix}lease:{key[len(prefix) :]}"

    def _notify(self, keys: Iterable[str]) -> None:
        """Wake those who wait in this process for the load leases of the stored keys."""
        if self._lease_notifier.waiting:
            for key in keys:
                self._lease_notifier.notify(self.load_lease(key))

    async def _end_all_loads(self, pattern: str, mark: str | None) -> None:
        # Before the entries: a computation that begins between the two has begun after the call.
        for lease in await self._end_loads(self.load_lease(pattern), mark):
            self._lease_notifier.notify(lease)

    def _stored(self, key: str) -> str:
        return self._namespace + (self._checked(key, "key") if self._collection else check_key(key))

    def _checked(self, text: str, what: str) -> str:
        """Return the key or tag if it is valid: in a collection its name counts as well."""
        check_key(text, what)
        if self._collection:
            check_key(f"{self._collection}:{text}", f"collection and {what}")
        return text

    def _stored_pattern(self, pattern: str | None) -> str:
        return self._namespace + ("*" if pattern is None else check_pattern(pattern))

    def _stored_tag(self, tag: str) -> str:
        start = self._namespace if self._collection else self.context.prefix
        return start + self._checked(tag, "tag")

    def _entry(
        self,
        value: Any,
        ttl: Milliseconds | None,
        tags: Sequence[str] = (),
        stale_for: Milliseconds | None = None,
    ) -> NewEntry:
        ttl_ms = _ttl_ms(ttl)
        if not tags and stale_for is None:
            return NewEntry(self.context.encode(value), ttl_ms)
        stored_tags = tuple(self._stored_tag(tag) for tag in dict.fromkeys(_sequence(tags, "tags")))
        if stale_for is None:
            return NewEntry(self.context.encode(value), ttl_ms, None, stored_tags)
        if ttl_ms is None:
            raise ValueError("stale_for needs a ttl: an entry without expiry never becomes stale")
        stale_for_ms = milliseconds(stale_for, "stale_for")
        return NewEntry(self.context.encode(value), ttl_ms, stale_for_ms, stored_tags)

    def _report_corrupt(self, key: str, exc: DecodeError) -> None:
        """Report what the cache treats as absent. In a collection it must not get lost."""
        if self._collection:
            raise CorruptValue(key, str(exc)) from exc
        if self.context.emit is not None:
            self.context.emit(CacheCorrupt(key=key, reason=str(exc)))


def parse_counter(text: str) -> int:
    """The integer that a counter holds. Raises `DecodeError` for anything else."""
    value = decode(text)
    if type(value) is not int:
        raise DecodeError(f"a counter must be an integer, not {text[:40]!r}")
    return value


def _ttl_ms(ttl: Milliseconds | None) -> int | None:
    return None if ttl is None else milliseconds(ttl, "ttl")


def _sequence(items: Sequence[str], what: str) -> Sequence[str]:
    if isinstance(items, str):
        raise TypeError(f"{what} must be a sequence of strings, not one string: [{items!r}]")
    return items
