"""``goscope idempotency``: which calls are in flight or done, and forgetting a result."""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from typing import Final

from ... import Scope
from .._arguments import Group, add_key, add_pattern
from .._ask import confirm
from .._changes import forget_result, read_result
from .._exit import EXIT_OK
from .._output import Columns, print_json, print_listing
from .._records import ListedCall, ListedResult
from .._store import run_on_store as run
from .._units import left, moment, size
from .._values import json_value, text_of

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = "List idempotent calls in flight and the results of those that are done."
EXTRA = "cli"
PACKAGES = ()

COLUMNS: Final[Columns[ListedCall]] = {
    "KEY": lambda it: it.key,
    "STATE": lambda it: it.state,
    "SIZE": lambda it: it.result and size(it.result.size_bytes),
    "LEFT": lambda it: _left(it),
    "FIRST USED": lambda it: it.result and moment(it.result.created_at),
    "FINGERPRINT": lambda it: it.result and it.result.fingerprint,
    "OWNER": lambda it: it.lease and it.lease.owner,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = Group(parser)
    add_pattern(group.listing("list", _list, "list the calls in flight, and the stored results"))
    show = group.listing("show", _show, "print the stored result of a call")
    forget = group.change("forget", _forget, "delete the result, so that the next call runs")
    for one in (show, forget):
        add_key(one)


async def _list(gs: Scope, arguments: argparse.Namespace) -> int:
    await print_listing(listed_calls(gs, arguments.pattern), COLUMNS, as_json=arguments.json)
    return EXIT_OK


async def listed_calls(gs: Scope, pattern: str | None = None) -> AsyncIterator[ListedCall]:
    """The calls in flight, then the stored results."""
    async for lease in gs.inspect.calls_in_flight(pattern):
        yield ListedCall(key=lease.key, state="in flight", lease=lease)
    async for result in gs.inspect.results(pattern):
        yield ListedCall(key=result.key, state="done", result=result)


async def _show(gs: Scope, arguments: argparse.Namespace) -> int:
    record = await read_result(gs, arguments.key)
    if arguments.json:
        print_json(
            ListedResult(
                key=arguments.key,
                value=json_value(record.value),
                expires_at=record.expires_at,
                fingerprint=record.fingerprint,
            )
        )
    else:
        print(text_of(record.value))
    return EXIT_OK


async def _forget(gs: Scope, arguments: argparse.Namespace) -> int:
    key = arguments.key
    record = await read_result(gs, key)
    confirm(
        f"Delete the result of call {key!r} ({size(len(bytes(record.value)))}, kept until "
        f"{moment(record.expires_at)}), so that the next call with this key runs?",
        arguments,
    )
    await forget_result(gs, key, record)
    print(f"Deleted the result of call {key!r}.")
    return EXIT_OK


def _left(call: ListedCall) -> str | None:
    if call.result is not None:
        return left(call.result.expires_in_ms)
    return None if call.lease is None else left(call.lease.expires_in_ms)
