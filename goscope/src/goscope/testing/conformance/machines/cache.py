"""A cache against a dictionary."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import hypothesis.strategies as st
from hypothesis.stateful import invariant, rule

from ....errors import CorruptValue
from ....providers import MISSING, CacheEntry
from .._base import cache_of
from ._machine import LONG_TTL_MS, SHORT_TTL_MS, Machine

KEYS: Final = ("a", "A", "a_b", "a%b", "a*b", "axb", "ab")
PATTERNS: Final = (*KEYS, "*", "a*", "*b", "a_*", "a*b*", "?")
TAGS: Final = ("one", "two", "on*")

any_key = st.sampled_from(KEYS)
any_pattern = st.sampled_from(PATTERNS)
any_value = st.sampled_from([None, 0, 7, "text", [1, None]])
any_ttl = st.sampled_from([None, SHORT_TTL_MS, LONG_TTL_MS])
any_tags = st.sets(st.sampled_from(TAGS))


@dataclass(frozen=True)
class Entry:
    value: Any
    expires: int | None
    stale: int | None = None
    tags: frozenset[str] = frozenset()


class CacheMachine(Machine):
    """Every method of the cache except stats()."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, Entry] = {}

    def live(self, key: str) -> Entry | None:
        entry = self.entries.get(key)
        return None if entry is None or self.has_passed(entry.expires) else entry

    def kept(self, key: str) -> Entry | None:
        """The entry if it is live or may be served stale."""
        entry = self.entries.get(key)
        if entry is None or self.live(key):
            return entry
        return None if entry.stale is None or self.has_passed(entry.stale) else entry

    def matching(self, pattern: str) -> list[str]:
        return sorted(key for key in self.entries if self.live(key) and matches(key, pattern))

    @rule(key=any_key, value=any_value, ttl=any_ttl, tags=any_tags)
    def set(self, key: str, value: object, ttl: int | None, tags: set[str]) -> None:
        ttl = self.ttl(ttl)
        self.call(lambda it: cache_of(it).set(key, value, ttl, tags=sorted(tags)))
        self.entries[key] = Entry(value, self.deadline(ttl), tags=frozenset(tags))

    @rule(key=any_key, value=any_value, stale_for=st.sampled_from([SHORT_TTL_MS, LONG_TTL_MS]))
    def set_stale(self, key: str, value: object, stale_for: int) -> None:
        ttl = self.ttl(SHORT_TTL_MS)
        self.call(lambda it: cache_of(it).set(key, value, ttl, stale_for=stale_for))
        expires = self.deadline(ttl)
        self.entries[key] = Entry(value, expires, expires and expires + stale_for)

    @rule(some=st.dictionaries(any_key, any_value), ttl=any_ttl)
    def set_many(self, some: dict[str, object], ttl: int | None) -> None:
        ttl = self.ttl(ttl)
        self.call(lambda it: cache_of(it).set_many(some, ttl))
        self.entries |= {key: Entry(value, self.deadline(ttl)) for key, value in some.items()}

    @rule(key=any_key, value=any_value, ttl=any_ttl)
    def add(self, key: str, value: object, ttl: int | None) -> None:
        ttl = self.ttl(ttl)
        added = self.call(lambda it: cache_of(it).add(key, value, ttl))
        self.check(f"add({key!r})", added, self.live(key) is None)
        if added:
            self.entries[key] = Entry(value, self.deadline(ttl))

    @rule(key=any_key)
    def delete(self, key: str) -> None:
        deleted = self.call(lambda it: cache_of(it).delete(key))
        self.check(f"delete({key!r})", deleted, self.live(key) is not None)
        self.entries.pop(key, None)

    @rule(some=st.lists(any_key, unique=True))
    def delete_many(self, some: list[str]) -> None:
        deleted = self.call(lambda it: cache_of(it).delete_many(some))
        self.check(f"delete_many({some})", deleted, sum(self.live(key) is not None for key in some))
        for key in some:
            self.entries.pop(key, None)

    @rule(key=any_key, ttl=any_ttl)
    def touch(self, key: str, ttl: int | None) -> None:
        ttl = self.ttl(ttl)
        touched = self.call(lambda it: cache_of(it).touch(key, ttl))
        old = self.live(key)
        self.check(f"touch({key!r})", touched, old is not None)
        if old is not None:
            expires, stale = self.deadline(ttl), None
            if expires is not None and old.stale is not None and old.expires is not None:
                stale = expires + old.stale - old.expires
            self.entries[key] = replace(old, expires=expires, stale=stale)

    @rule(key=any_key, by=st.integers(-3, 3), ttl=any_ttl)
    def increment(self, key: str, by: int, ttl: int | None) -> None:
        ttl = self.ttl(ttl)
        old = self.live(key) or Entry(0, self.deadline(ttl))
        try:
            total: object = self.call(lambda it: cache_of(it).increment(key, by, ttl))
        except CorruptValue:
            total = "CorruptValue"
        if type(old.value) is not int:
            self.check(f"increment({key!r})", total, "CorruptValue")
            return
        self.check(f"increment({key!r})", total, old.value + by)
        self.entries[key] = replace(old, value=old.value + by)

    @rule(tag=st.sampled_from(TAGS))
    def delete_by_tag(self, tag: str) -> None:
        deleted = self.call(lambda it: cache_of(it).delete_by_tag(tag))
        tagged = [key for key, entry in self.entries.items() if tag in entry.tags]
        self.check(
            f"delete_by_tag({tag!r})", deleted, sum(self.live(key) is not None for key in tagged)
        )
        for key in tagged:
            del self.entries[key]

    @rule(pattern=any_pattern)
    def clear(self, pattern: str) -> None:
        self.call(lambda it: cache_of(it).clear(pattern))
        self.entries = {key: it for key, it in self.entries.items() if not matches(key, pattern)}

    @rule()
    def prune(self) -> None:
        """The count is not checked: a sweep may have removed entries before."""
        self.call(lambda it: cache_of(it).prune())
        self.entries = {key: entry for key in KEYS if (entry := self.kept(key))}

    @rule(pattern=any_pattern)
    def keys(self, pattern: str) -> None:
        found = self.call(lambda it: cache_of(it).keys(pattern))
        self.check(f"keys({pattern!r})", list(found), self.matching(pattern))

    @rule(key=any_key)
    def get_entry(self, key: str) -> None:
        found = self.call(lambda it: cache_of(it).get_entry(key))
        entry = self.kept(key)
        expected = None if entry is None else (entry.value, self.live(key) is None)
        self.check(f"get_entry({key!r})", found and _summary(found), expected)

    @rule(key=any_key)
    def get(self, key: str) -> None:
        found = self.call(lambda it: cache_of(it).get(key, MISSING))
        exists = self.call(lambda it: cache_of(it).has(key))
        entry = self.live(key)
        self.check(f"get({key!r})", found, MISSING if entry is None else entry.value)
        self.check(f"has({key!r})", exists, entry is not None)

    @invariant()
    def all_entries_match(self) -> None:
        found = dict(self.call(lambda it: cache_of(it).get_many(KEYS)))
        expected = {key: entry.value for key in KEYS if (entry := self.live(key))}
        self.check("get_many()", found, expected)


def _summary(entry: CacheEntry) -> tuple[object, bool]:
    return entry.value, entry.is_stale


def matches(key: str, pattern: str) -> bool:
    """Whether the key matches: ``*`` is any run of characters, any other character itself."""
    if not pattern:
        return not key
    if pattern[0] == "*":
        return any(matches(key[skip:], pattern[1:]) for skip in range(len(key) + 1))
    return key[:1] == pattern[0] and matches(key[1:], pattern[1:])
