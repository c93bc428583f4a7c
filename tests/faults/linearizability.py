"""Whether a history of concurrent calls is linearizable: the search of Wing and Gong.

Each call must seem to happen at one moment between its begin and its end. The search tries every
order that the times allow, and remembers which sets of calls led to which state.

J. M. Wing and C. Gong, "Testing and Verifying Concurrent Objects", Journal of Parallel and
Distributed Computing 17 (1993); the memory is that of G. Lowe, "Testing for Linearizability",
Concurrency and Computation 29 (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, TypeAlias


class Call(NamedTuple):
    """A call of a process.

    ``end`` and ``result`` are None if they are not known: it may have happened at any time since
    its begin, or never.
    """

    begin: int
    end: int | None
    name: str
    argument: Any
    result: Any


State: TypeAlias = Hashable
Step: TypeAlias = Callable[[Any, Call], "tuple[bool, Any]"]
"""Whether the call can have this result in the state, and the state after it."""


def is_linearizable(calls: Sequence[Call], step: Step, initial: State) -> bool:
    """Whether some order of the calls explains every result."""
    calls = sorted(calls, key=lambda call: call.begin)
    required = sum(1 << index for index, call in enumerate(calls) if call.end is not None)
    seen: set[tuple[int, State]] = {(0, initial)}
    stack: list[tuple[int, State]] = [(0, initial)]
    while stack:
        done, state = stack.pop()
        if done & required == required:
            return True
        for index in _can_be_next(calls, done):
            fits, after = step(state, calls[index])
            found = done | 1 << index, after
            if fits and found not in seen:
                seen.add(found)
                stack.append(found)
    return False


def _can_be_next(calls: Sequence[Call], done: int) -> list[int]:
    """The calls that began before any other call that is left had ended."""
    found: list[int] = []
    earliest_end: float = float("inf")
    first = (~done & (done + 1)).bit_length() - 1  # the first that is not done
    for index in range(first, len(calls)):
        call = calls[index]
        if call.begin > earliest_end:
            break
        if not done >> index & 1:
            found.append(index)
            if call.end is not None:
                earliest_end = min(earliest_end, call.end)
    return found


# --- what goscope's objects do, one call after another ------------------------------------------


def register(state: Any, call: Call) -> tuple[bool, Any]:
    """A cache entry. The state is its value, or None."""
    match call.name:
        case "set":
            return True, call.argument
        case "delete":
            return call.result in (None, state is not None), None
        case "add":
            added = state is None
            return call.result in (None, added), call.argument if added else state
        case _:
            return call.result == state, state


def counter(state: int, call: Call) -> tuple[bool, int]:
    """``increment`` returns the count after it."""
    return call.result in (None, state + 1), state + 1


def lock(state: tuple[Any, int], call: Call) -> tuple[bool, tuple[Any, int]]:
    """The state is the token of the holder, and the highest token that was granted.

    A grant whose token is not known has a name instead.
    """
    holder, highest = state
    if call.name == "release":
        return holder == call.argument, (None, highest)
    if call.result is None:
        return holder is not None, state
    if isinstance(call.result, str):
        return holder is None, (call.result, highest)
    return holder is None and call.result > highest, (call.result, call.result)


def checkpoints(state: int, call: Call) -> tuple[bool, int]:
    """The state is the highest sequence; a save must be above it."""
    if call.name == "load_latest":
        return call.result == state, state
    is_above = call.argument > state
    return call.result in (None, is_above), call.argument if is_above else state


def once(state: Any, call: Call) -> tuple[bool, Any]:
    """An idempotent call. The result is the value, and whether it is a replay."""
    if call.end is None:
        return True, call.argument if state is None else state
    value, replayed = call.result
    return (value == state if replayed else state is None), value


MODELS: dict[str, tuple[Step, State]] = {
    "register": (register, None),
    "counter": (counter, 0),
    "lock": (lock, (None, 0)),
    "checkpoints": (checkpoints, 0),
    "once": (once, None),
}
