"""Cache entries: one string each, as go-go-scope writes them.

A companion hash holds what go-go-scope lacks: the tags of an entry, and its text for as long as it
may be served stale. It names the digest of the text that it describes, and is ignored once another
program has replaced that text. A sorted set for each tag lists the keys by their expiry.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final

from goscope.backend import (
    ANY_TAG,
    BaseCacheProvider,
    Fence,
    KeyedNotifier,
    NewEntry,
    StoreContext,
    StoredEntry,
    pattern_regex,
)

from .._server.server import Server
from ..keys import Keys
from . import cache_scripts as scripts
from .fence import check, guard
from .pattern import scan_pattern

MAX_KEYS_READ: Final = 1000
MAX_KEYS_DELETED: Final = 500
"""How many keys one command handles: the server does nothing else for about a millisecond."""


class RedisCacheProvider(BaseCacheProvider):
    """Cache entries, one key each."""

    def __init__(
        self, context: StoreContext, server: Server, keys: Keys, lease_notifier: KeyedNotifier
    ) -> None:
        super().__init__(context, lease_notifier)
        self._server = server
        self._keys = keys
        self._companions: Final = keys.companion("entry", "")
        self._tags: Final = keys.companion("tag", "")

    async def scan(self, pattern: str | None = None) -> AsyncIterator[str]:
        strip = len(self._namespace)
        for stored in sorted(await self._matching(self._stored_pattern(pattern))):
            yield stored[strip:]

    # --- primitives --------------------------------------------------------------------------

    async def _get(self, key: str) -> Any:
        return await self._server.call("GET", self._keys.name(key), repeatable=True)

    async def _get_many(self, keys: list[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for chunk in _chunks(keys, MAX_KEYS_READ):
            names = map(self._keys.name, chunk)
            texts = await self._server.call("MGET", *names, repeatable=True)
            found.update(
                (key, text) for key, text in zip(chunk, texts, strict=True) if text is not None
            )
        return found

    async def _get_entry(self, key: str) -> tuple[StoredEntry, int] | None:
        answer = await self._server.run(scripts.READ, self._names(key), repeatable=True)
        if answer is None:
            return None
        text, expires_at, now, stale_for, tags = answer
        if expires_at == -1:
            return StoredEntry(text, tags=self._stored_tags(tags)), now
        stale_until = None if stale_for is None else expires_at + int(stale_for)
        return StoredEntry(text, expires_at, stale_until, self._stored_tags(tags)), now

    async def _set(self, entries: Mapping[str, NewEntry], fence: Fence | None) -> None:
        if fence is None and len(entries) == 1:
            [(key, entry)] = entries.items()
            if not entry.tags and entry.stale_for_ms is None:
                plain = (self._keys.own, entry.text, _text(entry.ttl_ms))
                await self._server.run(scripts.SET_PLAIN, self._names(key), *plain)
                return
        names = [name for key in entries for name in self._names(key)]
        arguments = [it for entry in entries.values() for it in self._arguments(entry)]
        guards, token = guard(self._keys, fence, names[0])
        answer = await self._server.run(
            scripts.SET, (*names, *guards), self._keys.own, *arguments, token
        )
        check(answer, fence)

    async def _add(self, key: str, entry: NewEntry, fence: Fence | None) -> bool:
        names = self._names(key)
        guards, token = guard(self._keys, fence, names[0])
        arguments = (self._keys.own, *self._arguments(entry), token)
        added = check(await self._server.run(scripts.ADD, (*names, *guards), *arguments), fence)
        return bool(added)

    async def _update(
        self,
        key: str,
        change: Callable[[StoredEntry | None], StoredEntry | None],
        fence: Fence | None,
        *,
        ends_load: bool = True,
    ) -> None:
        names = self._names(key)
        guards, token = guard(self._keys, fence, names[0])
        own = self._keys.own if ends_load else ""
        replaced = 0
        while not replaced:
            found = await self._get_entry(key)
            old = None if found is None else found[0]
            new = change(old)
            expected = "" if found is None or not found[0].is_live(found[1]) else found[0].text
            arguments = ("", "", "", "") if new is None else self._absolute(new)
            answer = await self._server.run(
                scripts.REPLACE, (*names, *guards), own, expected, *arguments, token
            )
            replaced = check(answer, fence)

    async def _delete(self, keys: list[str], fence: Fence | None) -> int:
        deleted = 0
        for chunk in _chunks(keys, MAX_KEYS_DELETED):
            names = [name for key in chunk for name in self._names(key)]
            guards, token = guard(self._keys, fence, names[0])
            answer = await self._server.run(
                scripts.DELETE, (*names, *guards), self._keys.own, token
            )
            deleted += check(answer, fence)
        return deleted

    async def _end_loads(self, pattern: str, mark: str | None) -> list[str]:
        ended: list[str] = []
        async for leases in self._leases(pattern, mark):
            names = [self._keys.name(lease) for lease in leases]
            arguments = (self._keys.own, mark or "", ANY_TAG)
            found = await self._server.run(scripts.END_LOADS, names, *arguments, repeatable=True)
            ended += [lease.decode() for lease in found]
        return ended

    async def _leases(self, pattern: str, mark: str | None) -> AsyncIterator[list[str]]:
        """The stored keys of leases that match, in pages; with a mark, those that name tags."""
        if mark is None:
            start = self._keys.companion("grant", "")
            async for names in self._server.scan(scan_pattern(start, pattern)):
                yield [name[len(start) :] for name in names]
        else:
            names = await self._server.call("SMEMBERS", f"{self._keys.own}loads", repeatable=True)
            matches = pattern_regex(pattern).fullmatch
            found = [lease for name in names if matches(lease := name.decode())]
            for chunk in _chunks(found, MAX_KEYS_DELETED):
                yield chunk

    async def _touch(self, key: str, ttl_ms: int | None) -> bool:
        return bool(await self._server.run(scripts.TOUCH, self._names(key), _text(ttl_ms)))

    async def _increment(self, key: str, by: int, ttl_ms: int | None) -> int:
        if abs(by) < 10**17:
            arguments = (self._keys.own, by, _text(ttl_ms))
            answer = await self._server.run(scripts.INCREMENT, self._names(key), *arguments)
            if not isinstance(answer, list):
                return int(answer)
        return await super()._increment(key, by, ttl_ms)  # beyond 64 bits, or not an integer

    async def _clear(self, pattern: str) -> None:
        for start in (self._keys.space, self._companions):
            async for names in self._server.scan(scan_pattern(start, pattern)):
                await self._delete([name[len(start) :] for name in names], None)

    async def _page(
        self, pattern: str, after: str, limit: int, *, with_expired: bool = False
    ) -> list[str]:
        found = await self._matching(pattern)
        return sorted(key for key in found if key > after)[:limit]

    async def _tagged(self, tag: str) -> list[str]:
        names = await self._server.call("ZRANGE", self._tags + tag, 0, -1, repeatable=True)
        return [self._keys.stored(name.decode()) for name in names]

    async def _delete_by_tag(self, tag: str) -> int:
        leases = self._keys.name(self.load_lease(self._namespace))
        arguments = (self._keys.own, self._keys.name(self._namespace), leases, MAX_KEYS_DELETED)
        deleted, skipped, pages = 0, 0, 1
        is_first = True
        while pages > 0:
            live, skipped, left = await self._server.run(
                scripts.DELETE_TAGGED, [self._tags + tag], *arguments, skipped
            )
            deleted += live
            if is_first:  # concurrent writes cannot prolong it
                pages += -(-left // MAX_KEYS_DELETED)
            is_first = False
            pages -= 1
        return deleted

    async def _count(self, namespace: str) -> int:
        return len(await self._matching(f"{namespace}*"))

    async def _prune(self, namespace: str) -> int:
        self.context.check()
        return 0  # the server itself removes what has expired

    # --- helpers -----------------------------------------------------------------------------

    def _names(self, key: str) -> tuple[str, str, str]:
        """The key of the entry, that of its companion, and the lock of its load lease."""
        lock = self._keys.space + self.load_lease(key)
        return self._keys.space + key, self._companions + key, lock

    def _arguments(self, entry: NewEntry) -> tuple[str, str, str, str]:
        """What `scripts.SET` takes for an entry; tags are "" if it needs no companion."""
        stale_for, tags = _text(entry.stale_for_ms), self._tag_names(entry.tags)
        return entry.text, _text(entry.ttl_ms), stale_for, tags or ("[]" if stale_for else "")

    def _absolute(self, entry: StoredEntry) -> tuple[str, str, str, str]:
        """What `scripts.REPLACE` takes for an entry."""
        stale_for = ""
        if entry.stale_until is not None and entry.expires_at is not None:
            stale_for = str(entry.stale_until - entry.expires_at)
        tags = self._tag_names(entry.tags) or ("[]" if stale_for else "")
        return entry.text, _text(entry.expires_at), stale_for, tags

    def _tag_names(self, tags: tuple[str, ...]) -> str:
        return json.dumps([self._tags + tag for tag in tags]) if tags else ""

    def _stored_tags(self, names: bytes | None) -> tuple[str, ...]:
        if names is None:
            return ()
        return tuple(name[len(self._tags) :] for name in json.loads(names))

    async def _matching(self, pattern: str) -> set[str]:
        """The stored keys of all live entries that match."""
        found: set[str] = set()
        async for names in self._server.scan(scan_pattern(self._keys.space, pattern)):
            found.update(map(self._keys.stored, names))
        return found


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _chunks(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
