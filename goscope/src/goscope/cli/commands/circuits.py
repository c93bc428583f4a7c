"""``goscope circuits``: the states of circuit breakers, and forcing them."""

from __future__ import annotations

import argparse
from functools import partial
from typing import Final

from ... import Scope, escape_pattern
from ...inspection import CircuitInfo
from .._arguments import Group, add_key, add_pattern
from .._ask import confirm
from .._changes import CircuitChange, change_circuit, not_found
from .._exit import EXIT_OK
from .._find import first
from .._output import Columns, print_listing, print_record
from .._store import run_on_store as run
from .._units import moment

__all__ = ["DESCRIPTION", "EXTRA", "PACKAGES", "add_arguments", "run"]

DESCRIPTION = "List circuit breakers, and force them open or closed, for all processes."
EXTRA = "cli"
PACKAGES = ()

COLUMNS: Final[Columns[CircuitInfo]] = {
    "KEY": lambda it: it.key,
    "STATE": lambda it: state_of(it),
    "FAILURES": lambda it: it.state and it.state.failure_count,
    "SUCCESSES": lambda it: it.state and it.state.success_count,
    "LAST FAILURE": lambda it: it.state and moment(it.state.last_failure_time),
    "LAST SUCCESS": lambda it: it.state and moment(it.state.last_success_time),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    group = Group(parser)
    add_pattern(group.listing("list", _list, "list the circuits that were called"))
    show = group.listing("show", _show, "show the state of one")
    summaries: dict[CircuitChange, str] = {
        "open": "reject every call until it is closed or reset",
        "close": "admit calls from now on",
        "reset": "forget its state, as if it had never been called",
    }
    changes = [
        group.change(change, partial(_change, change), summary)
        for change, summary in summaries.items()
    ]
    for one in (show, *changes):
        add_key(one)


async def _list(gs: Scope, arguments: argparse.Namespace) -> int:
    await print_listing(gs.inspect.circuits(arguments.pattern), COLUMNS, as_json=arguments.json)
    return EXIT_OK


async def _show(gs: Scope, arguments: argparse.Namespace) -> int:
    circuit = await _find(gs, arguments.key)
    fields = {name.lower(): value(circuit) for name, value in COLUMNS.items()}
    print_record(circuit, fields, as_json=arguments.json)
    return EXIT_OK


async def _change(change: CircuitChange, gs: Scope, arguments: argparse.Namespace) -> int:
    circuit = await _find(gs, arguments.key)
    verb = {"open": "Force open", "close": "Force closed", "reset": "Reset"}[change]
    confirm(f"{verb} circuit {circuit.key!r}, which is {state_of(circuit)}?", arguments)
    await change_circuit(gs, circuit, change)
    done = {"open": "is forced open", "close": "is closed", "reset": "was reset"}[change]
    print(f"Circuit {circuit.key!r} {done}.")
    return EXIT_OK


async def _find(gs: Scope, key: str) -> CircuitInfo:
    circuit = await first(gs.inspect.circuits(escape_pattern(key)))
    if circuit is None:
        raise not_found("circuit", key)
    return circuit


def state_of(circuit: CircuitInfo) -> str:
    """The state, and whether an operator forced it open."""
    state = circuit.state
    if state is None:
        return "unreadable"
    forced = state.state == "open" and state.last_failure_time is None
    return "open (forced)" if forced else state.state
