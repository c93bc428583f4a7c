"""Digests of values, for keys: values that differ in anything have different ones."""

from __future__ import annotations

import datetime
import decimal
import enum
import hashlib
import inspect
import math
import operator
import os
import sys
import uuid
from collections import OrderedDict
from collections.abc import Mapping, Set
from typing import Any, Final, cast

import msgspec

from ..errors import SerializationError
from .round_trip import class_of, fields_of

DIGEST_BYTES: Final = 16

_MAX_JSON_INTEGER: Final = 2**63
_PLAIN: Final = frozenset({str, bool, type(None)})
_BY_TEXT: Final = (
    datetime.date,
    datetime.timedelta,
    decimal.Decimal,
    uuid.UUID,
)


def digest(value: Any) -> str:
    """A hexadecimal digest of the value, the same in every process.

    The types are part of it: 1, True, 1.0 and "1" differ, and so do a list and a tuple. Objects
    count with every field: those that are masked, excluded or not compared, too. The order of dicts
    and sets does not count. Raises `SerializationError` for a value without a stable content.
    """
    try:
        text = msgspec.json.encode(_described(value))
    except (TypeError, ValueError, RecursionError, OverflowError) as exc:
        raise SerializationError(str(exc)) from exc
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).hexdigest()


def module_of(thing: Any) -> str:
    """The module of a function or class; for a script its file name.

    All scripts share ``__main__``, and multiprocessing imports that of its parent as
    ``__mp_main__``.
    """
    name: str = thing.__module__
    if name not in ("__main__", "__mp_main__"):
        return name
    # Not from sys.modules if possible, where a child has the script only once it is imported.
    names = getattr(inspect.unwrap(thing), "__globals__", None) or vars(sys.modules.get(name, sys))
    path: str | None = names.get("__file__")
    return os.path.splitext(os.path.basename(path))[0] if path else "__main__"


def _described(value: Any) -> Any:
    """The value as JSON: plain scalars and lists as they are, all else as ``{type: content}``."""
    cls = class_of(value)
    if cls in _PLAIN:
        return value
    if cls is int:
        fits = -_MAX_JSON_INTEGER <= value < _MAX_JSON_INTEGER
        return value if fits else {"int": str(value)}
    if cls is float:
        if not math.isfinite(value):
            raise TypeError(f"{value} is not equal to itself or not a JSON number")
        return value
    if cls is list:
        return [_described(item) for item in value]
    return {f"{module_of(cls)}.{cls.__qualname__}": _content(cls, value)}


def _content(cls: type[object], value: Any) -> Any:
    if issubclass(cls, enum.Enum):
        return _described(value.value) if issubclass(cls, enum.Flag) else value.name
    if (fields := fields_of(value)) is not None:
        set_fields = sorted(getattr(value, "__pydantic_fields_set__", ()))
        return [[[name, _described(field)] for name, field in fields.items()], set_fields]
    if hasattr(value, "get_secret_value"):
        return _described(value.get_secret_value())
    if getattr(value, "__dict__", None):
        raise TypeError(f"a {cls.__name__} has no JSON form")
    return _builtin_content(cls, value)


def _builtin_content(cls: type[object], value: Any) -> Any:
    """The content of a builtin, or of a subclass that adds no attributes to one."""
    if issubclass(cls, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if issubclass(cls, (list, tuple)):
        return [_described(item) for item in value]
    if issubclass(cls, Set):
        return sorted(msgspec.json.encode(_described(item)).decode() for item in value)
    if issubclass(cls, Mapping):
        items = [[_described(key), _described(item)] for key, item in value.items()]
        return items if issubclass(cls, OrderedDict) else sorted(items, key=msgspec.json.encode)
    if issubclass(cls, (datetime.datetime, datetime.time)):
        zone = value.tzinfo
        return [value.isoformat(), value.fold, getattr(zone, "key", None) or value.tzname()]
    if issubclass(cls, _BY_TEXT):
        return str(value)
    if isinstance(value, os.PathLike):
        return _described(os.fspath(cast("os.PathLike[str]", value)))
    for base in (str, int, float):
        if issubclass(cls, base):
            return _described(base(value))
    if hasattr(value, "__index__"):
        return _described(operator.index(value))  # an integer of numpy
    raise TypeError(f"a {cls.__name__} has no JSON form")
