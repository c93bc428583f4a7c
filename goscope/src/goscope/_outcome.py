"""What the function of an idempotent call may return: a result, and the rows to commit with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeAlias, TypeGuard, TypeVar, get_args, get_origin

import msgspec

T = TypeVar("T")

Within: TypeAlias = Callable[[Any], Any]


class Outcome(msgspec.Struct, Generic[T], frozen=True):
    """The result of an idempotent call, which is stored in one transaction with ``within``.

    ``within`` is a function of a connection of the driver, see `goscope.Scope.transaction`; what it
    returns is ignored. The callers get the value alone.
    """

    value: T
    within: Within


def is_outcome(returned: object) -> TypeGuard[Outcome[Any]]:
    """Whether a function returned an `Outcome`; ``isinstance`` alone leaves its type open."""
    return isinstance(returned, Outcome)


def value_type(annotation: Any) -> Any:
    """The type of the value of an `Outcome`; another annotation is that type itself."""
    return get_args(annotation)[0] if get_origin(annotation) is Outcome else annotation
