"""What a type says before any value of it exists: whether JSON text can be decoded to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from . import models

_OBJECTS: Final = (
    msgspec.inspect.CustomType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.NamedTupleType,
    msgspec.inspect.StructType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.EnumType,
    msgspec.inspect.LiteralType,
)


def refusal(type: Any) -> str | None:
    """Why values of the type do not come back from JSON, None if they may.

    Raises ``TypeError`` for what msgspec refuses, such as a union that JSON cannot tell apart, and
    ``NameError`` when an annotation names something that does not exist yet.
    """
    for node in _nodes(type):
        cls = getattr(node, "cls", None)
        if isinstance(node, msgspec.inspect.CustomType):
            if not models.is_model_type(cls):
                return f"{_name(cls)} has no decoding"
            if reason := models.refusal(cls):
                return f"{_name(cls)} does not come back as it was: {reason}"
        elif hidden := _unwritten_field(cls):
            return f"{_name(cls)} does not come back as it was: {hidden!r} is not written"
    return None


def holds_objects(type: Any) -> bool:
    """Whether a value of the type can lose something that plain JSON would keep."""
    return any(isinstance(node, _OBJECTS) for node in _nodes(type))


def _nodes(type: Any) -> Iterator[msgspec.inspect.Type]:
    """The type and everything that it is made of."""
    seen: set[int] = set()
    pending: list[Any] = [msgspec.inspect.type_info(type)]
    while pending:
        node = pending.pop()
        if isinstance(node, tuple):
            pending += node
        elif isinstance(node, msgspec.inspect.Field):
            pending.append(node.type)
        elif isinstance(node, msgspec.inspect.Type) and id(node) not in seen:
            seen.add(id(node))
            pending += (getattr(node, name) for name in node.__struct_fields__)
            yield node


def _unwritten_field(cls: Any) -> str | None:
    """A field of an attrs class that msgspec leaves out: one whose name begins with ``_``."""
    names = [attribute.name for attribute in getattr(cls, "__attrs_attrs__", ())]
    return next((name for name in names if name.startswith("_")), None)


def _name(cls: Any) -> str:
    return getattr(cls, "__qualname__", None) or repr(cls)
