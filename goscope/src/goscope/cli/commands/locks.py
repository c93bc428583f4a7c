"""``goscope locks``: who holds which lock or lease, and ending a grant."""

from __future__ import annotations

import argparse
from typing import Final, cast, get_args

from ... import Scope, escape_pattern
from ...inspection import LeaseInfo, LeaseKind
from .._arguments import Group, add_key, add_pattern
from .._ask import confirm
from .._changes import not_found, release_lease
from .._exit import EXIT_OK, Refused
from .._find import find_lease
from .._output import Columns, print_listing, print_record, table
from .._records import ListedLease
from .._store import run_on_store as run
from .._units import duration, left, moment

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = """
    List locks, and the leases that features hold, and end a grant whose holder hangs. In-memory
    locks are not in the store: without locks=shared only the process that holds one knows of it.
"""
EXTRA = "cli"
PACKAGES = ()

_COLUMNS: Final[Columns[LeaseInfo]] = {
    "KIND": lambda it: it.kind,
    "KEY": lambda it: it.key,
    "OWNER": lambda it: it.owner,
    "HOST": lambda it: it.host,
    "PID": lambda it: it.pid or None,
    "ALIVE": lambda it: alive(it),
    "LEFT": lambda it: left(it.expires_in_ms),
    "TOKEN": lambda it: it.fencing_token,
    "SINCE": lambda it: moment(it.acquired_at),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = Group(parser)
    listing = group.listing("list", _list, "list the locks and leases that were not released")
    add_pattern(listing)
    _add_kind(listing, None, "only leases of this kind")
    show = group.listing("show", _show, "show who holds one, and who waits for it")
    release = group.change("release", _release, "end the current grant, so that the next one waits")
    for one in (show, release):
        add_key(one)
        _add_kind(one, "lock", "its kind (default: lock)")
    release.add_argument(
        "--token", type=int, metavar="N", help="only if its fencing token still is N"
    )


def _add_kind(parser: argparse.ArgumentParser, default: str | None, text: str) -> None:
    parser.add_argument("--kind", choices=get_args(LeaseKind), default=default, help=text)


async def _list(gs: Scope, arguments: argparse.Namespace) -> int:
    leases = gs.inspect.leases(arguments.pattern, kind=cast(LeaseKind, arguments.kind))
    await print_listing(leases, _COLUMNS, as_json=arguments.json)
    return EXIT_OK


async def _show(gs: Scope, arguments: argparse.Namespace) -> int:
    lease = await _find(gs, arguments)
    waiters = [
        waiter
        async for waiter in gs.inspect.waiters(escape_pattern(lease.key))
        if waiter.kind == lease.kind
    ]
    fields = {name.lower(): value(lease) for name, value in _COLUMNS.items()}
    print_record(
        ListedLease(lease=lease, waiters=waiters),
        fields | {"waiters": len(waiters)},
        as_json=arguments.json,
    )
    if not arguments.json:
        for line in table(
            waiters,
            {
                "WAITER": lambda it: it.name,
                "PID": lambda it: it.pid,
                "WAITS": lambda it: None if it.waited_ms is None else duration(it.waited_ms),
            },
        ):
            print(line)
    return EXIT_OK


async def _release(gs: Scope, arguments: argparse.Namespace) -> int:
    lease = await _find(gs, arguments)
    if arguments.token not in (None, lease.fencing_token):
        raise Refused(
            f"nothing was released: {lease.kind} {lease.key!r} has token {lease.fencing_token}, "
            f"not {arguments.token}: the grant that you mean has ended"
        )
    confirm(
        f"Release {lease.kind} {lease.key!r} (token {lease.fencing_token}) of {lease.owner}, "
        f"host {lease.host}, pid {lease.pid}, {_state(lease)}?",
        arguments,
    )
    ended = await release_lease(gs, lease)
    doubt = " The server does not say whether it was current." if ended is None else ""
    print(f"Released {lease.kind} {lease.key!r} (token {lease.fencing_token}).{doubt}")
    return EXIT_OK


async def _find(gs: Scope, arguments: argparse.Namespace) -> LeaseInfo:
    key, kind = arguments.key, arguments.kind
    lease = await find_lease(gs, key, kind)
    if lease is None:
        raise not_found("lock" if kind == "lock" else f"lease of the kind {kind} for", key)
    return lease


def alive(lease: LeaseInfo) -> str:
    """Whether the process of the holder runs."""
    return "unknown" if lease.is_alive is None else "yes" if lease.is_alive else "no"


def _state(lease: LeaseInfo) -> str:
    process = {True: "which runs", False: "which has ended", None: "of which nothing is known"}
    return f"{process[lease.is_alive]}; the lease {_expiry(lease)}"


def _expiry(lease: LeaseInfo) -> str:
    if lease.expires_in_ms <= 0:
        return "has expired"
    return f"expires in {duration(lease.expires_in_ms)} unless it is renewed"
