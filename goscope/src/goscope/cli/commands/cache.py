"""``goscope cache``: the entries of the cache and of collections, and changing them."""

from __future__ import annotations

import argparse
import sys
from typing import Final

import msgspec

from ... import Scope
from ..._tools.duration import milliseconds
from ...errors import CorruptValue
from ...inspection import CollectionInfo, EntryInfo
from ...providers import CacheEntry
from .._arguments import Group, add_collection, add_key, add_pattern
from .._ask import confirm
from .._changes import (
    EntryName,
    delete_entry,
    delete_unread,
    is_listed,
    read_entry,
    report,
    set_entry,
)
from .._exit import EXIT_OK, NotFound, UsageError
from .._output import Columns, print_json, print_listing, print_record
from .._records import CacheTotals, ListedEntry
from .._store import run_on_store as run
from .._units import duration, left, moment, size
from .._values import json_value, text_of

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = "List, read, write and delete entries of the cache, and of collections of gs.store."
EXTRA = "cli"
PACKAGES = ()

COLUMNS: Final[Columns[EntryInfo]] = {
    "KEY": lambda it: it.key,
    "SIZE": lambda it: size(it.size_bytes),
    "LEFT": lambda it: _left(it),
    "WRITTEN": lambda it: moment(it.created_at),
    "TAGS": lambda it: ",".join(it.tags) or None,
}


COLLECTIONS: Final[Columns[CollectionInfo]] = {
    "NAME": lambda it: it.name,
    "ENTRIES": lambda it: f"{it.count:,}",
    "SIZE": lambda it: size(it.size_bytes),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = Group(parser)
    keys = group.listing("keys", _keys, "list the entries")
    get = group.listing("get", _get, "print the value of one entry")
    write = group.change("set", _set, "write an entry")
    delete = group.change("delete", _delete, "delete one entry")
    for one in (get, write, delete):
        add_key(one)
    write.add_argument("value", metavar="JSON", help="the value; - reads it from standard input")
    write.add_argument("--ttl", help="how long it lives, such as 5m (default: it never expires)")
    clear = group.change("clear", _clear, "delete all entries, or all that match")
    for several in (keys, clear):
        add_pattern(several)
    stats = group.listing("stats", _stats, "count the entries, and add up their sizes")
    for any_of_these in (keys, get, write, delete, clear, stats):
        add_collection(any_of_these)
    group.listing("collections", _collections, "list the collections of gs.store that have entries")


async def _keys(gs: Scope, arguments: argparse.Namespace) -> int:
    listed = gs.inspect.entries(arguments.pattern, collection=arguments.collection)
    await print_listing(listed, COLUMNS, as_json=arguments.json)
    return EXIT_OK


async def _get(gs: Scope, arguments: argparse.Namespace) -> int:
    name, entry = await _read(gs, arguments)
    if entry is None:
        raise NotFound(f"there is no {name}")
    if arguments.json:
        print_json(
            ListedEntry(
                key=name.key,
                value=json_value(entry.value),
                expires_in_ms=entry.expires_in_ms,
                is_stale=entry.is_stale,
            )
        )
    else:
        print(text_of(entry.value))
    return EXIT_OK


async def _set(gs: Scope, arguments: argparse.Namespace) -> int:
    ttl_ms = None
    text = sys.stdin.read() if arguments.value == "-" else arguments.value
    try:
        if arguments.ttl is not None:
            ttl_ms = milliseconds(arguments.ttl, "--ttl")
        msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise UsageError(
            f"the value is not JSON ({exc}): write a text in quotes, '\"so\"'"
        ) from exc
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    name, shown = await _read(gs, arguments)
    if shown is not None:
        confirm(f"Replace {name} ({_described(shown)})?", arguments)
    await set_entry(gs, name, shown, text.strip(), ttl_ms)
    print(f"Wrote {name}.")
    return EXIT_OK


async def _delete(gs: Scope, arguments: argparse.Namespace) -> int:
    name = EntryName(arguments.collection, arguments.key)
    try:
        shown = await read_entry(gs, name)
    except CorruptValue:
        shown = None
    if shown is not None:
        confirm(f"Delete {name} ({_described(shown)})?", arguments)
        await delete_entry(gs, name, shown)
    elif await is_listed(gs, name):
        confirm(f"Delete {name}, whose value cannot be read?", arguments)
        await delete_unread(gs, name)
    else:
        raise NotFound(f"there is no {name}")
    print(f"Deleted {name}.")
    return EXIT_OK


async def _clear(gs: Scope, arguments: argparse.Namespace) -> int:
    name = EntryName(arguments.collection, arguments.pattern or "*")
    count = 0
    async for _ in gs.inspect.entries(arguments.pattern, collection=name.collection):
        count += 1
    place = "the cache" if name.collection is None else f"collection {name.collection!r}"
    confirm(f"Delete {count:,} entries of {place}, and those written until then?", arguments)
    entries = gs.cache if name.collection is None else gs.store(name.collection)
    await entries.clear(arguments.pattern)
    report(gs, "cache clear", name.full_key)
    print(f"Deleted {count:,} entries.")
    return EXIT_OK


async def _stats(gs: Scope, arguments: argparse.Namespace) -> int:
    entries, size_bytes, expired = 0, 0, 0
    async for entry in gs.inspect.entries(collection=arguments.collection):
        entries += 1
        size_bytes += entry.size_bytes
        expired += _is_expired(entry)
    totals = CacheTotals(entries=entries, size_bytes=size_bytes, expired=expired)
    fields = {"entries": f"{entries:,}", "size": size(size_bytes), "expired": f"{expired:,}"}
    print_record(totals, fields, as_json=arguments.json)
    return EXIT_OK


async def _collections(gs: Scope, arguments: argparse.Namespace) -> int:
    await print_listing(gs.inspect.collections(), COLLECTIONS, as_json=arguments.json)
    return EXIT_OK


async def _read(gs: Scope, arguments: argparse.Namespace) -> tuple[EntryName, CacheEntry | None]:
    name = EntryName(arguments.collection, arguments.key)
    return name, await read_entry(gs, name)


def _described(entry: CacheEntry) -> str:
    return f"{size(len(bytes(entry.value)))}, time left: {left(entry.expires_in_ms)}"


def _is_expired(entry: EntryInfo) -> bool:
    return entry.expires_in_ms is not None and entry.expires_in_ms <= 0


def _left(entry: EntryInfo) -> str:
    stale_ms = entry.stale_expires_in_ms
    if _is_expired(entry) and stale_ms is not None and stale_ms > 0:
        return f"stale for {duration(stale_ms)}"
    return left(entry.expires_in_ms)
