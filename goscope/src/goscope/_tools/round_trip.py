"""Whether a value came back from JSON as it went in."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import uuid
from collections.abc import Mapping
from typing import Any, Final

_SCALARS: Final = (type(None), bool, int, float, str)
_WITH_TEXT: Final = (
    datetime.date,  # datetimes are dates
    datetime.time,
    datetime.timedelta,
    decimal.Decimal,
    enum.Enum,
    uuid.UUID,
    bytes,
    bytearray,
    memoryview,
)
_ARRAYS: Final = (list, tuple, set, frozenset)


def difference(sent: Any, got: Any, where: str = "") -> str | None:
    """What of ``sent`` is missing or different in ``got``; None if nothing is.

    Where ``got`` holds plain JSON, nothing asked for more: a date may be a string there, a tuple a
    list, an object a dict with each of its fields. An object comes back as one of the same class,
    unless it was plain JSON in the first place.
    """
    if sent is got:
        return None
    before, after = class_of(sent), class_of(got)
    if after in _SCALARS:
        same = sent == got or issubclass(before, _WITH_TEXT)
        return None if same else _changed(sent, got, where)
    if issubclass(after, dict):
        return _mapping_difference(sent, got, where)
    if issubclass(after, (list, tuple)) and issubclass(before, _ARRAYS):
        return _array_difference(list(sent), got, where)
    if issubclass(before, (dict, list)) and not issubclass(after, (set, frozenset)):
        return None  # JSON that was given to be decoded
    if fields_of(got) is None and not _has_identity(got):
        return None if _is_equal(sent, got) else _changed(sent, got, where)
    if before is not after:
        return _changed(sent, got, where)
    return _field_difference(_attributes(sent), _attributes(got), where)


def class_of(value: object) -> Any:
    """The class of a value, whatever is known about its type."""
    return type(value)


def fields_of(value: Any) -> dict[str, Any] | None:
    """Every attribute that makes up an object, by name; None for a class without fields.

    Dataclasses, attrs and ``msgspec.Struct`` have fields; models have extra and private ones too.
    """
    names = _field_names(class_of(value))
    if names is None:
        return None
    fields = {name: getattr(value, name, None) for name in names}
    for extra in ("__pydantic_extra__", "__pydantic_private__"):
        fields |= getattr(value, extra, None) or {}
    if not hasattr(value, "__pydantic_extra__"):
        fields |= _other_attributes(value, fields)
    return fields


@functools.lru_cache(maxsize=1024)
def _field_names(cls: Any) -> tuple[str, ...] | None:
    if hasattr(cls, "__struct_fields__"):
        return tuple(cls.__struct_fields__)
    if dataclasses.is_dataclass(cls):
        return tuple(field.name for field in dataclasses.fields(cls))
    if hasattr(cls, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in cls.__attrs_attrs__)
    if hasattr(cls, "__pydantic_fields__"):
        return tuple(cls.__pydantic_fields__)
    return None


def _other_attributes(value: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What was assigned beside the fields, without the results of cached properties."""
    return {
        name: attribute
        for name, attribute in getattr(value, "__dict__", {}).items()
        if name not in fields
        and not isinstance(getattr(class_of(value), name, None), functools.cached_property)
    }


def _mapping_difference(sent: Any, got: Mapping[Any, Any], where: str) -> str | None:
    if not issubclass(class_of(sent), Mapping):
        if hasattr(sent, "__struct_fields__"):
            return None  # it may rename and omit fields, and its values have a JSON form
        fields = fields_of(sent)
        if fields is None:
            return _changed(sent, got, where)
        return _field_difference(fields, got, where)
    if len(sent) != len(got):  # a TypedDict has dropped keys, or two keys had one text
        lost = ", ".join(repr(key) for key in sent if key not in got)
        return f"{where or 'the value'} lost {lost or 'an entry'}"
    # JSON keeps the order; keys that JSON has no form for have become strings.
    for (key, one), other in zip(sent.items(), got.values(), strict=True):
        found = difference(one, other, f"{where}[{key!r}]")
        if found is not None:
            return found
    return None


def _array_difference(sent: list[Any], got: Any, where: str) -> str | None:
    if len(sent) != len(got):
        return f"{where or 'the value'} had {len(sent)} items and came back with {len(got)}"
    for index, (one, other) in enumerate(zip(sent, got, strict=True)):
        found = difference(one, other, f"{where}[{index}]")
        if found is not None:
            return found
    return None


def _field_difference(sent: Mapping[str, Any], got: Mapping[str, Any], where: str) -> str | None:
    for name, one in sent.items():
        if name not in got:
            return f"{where}.{name} is lost"
        found = difference(one, got[name], f"{where}.{name}")
        if found is not None:
            return found
    return None


def _has_identity(value: Any) -> bool:
    """Whether an object is equal to itself only, so that its attributes have to be compared."""
    equality: object = type(value).__eq__
    return equality is object.__eq__ and hasattr(value, "__dict__")


def _attributes(value: Any) -> Mapping[str, Any]:
    fields = fields_of(value)
    return value.__dict__ if fields is None else fields


def _is_equal(sent: Any, got: Any) -> bool:
    if isinstance(got, enum.Enum) and not isinstance(sent, enum.Enum):
        return bool(sent == got.value)
    return bool(sent == got)


def _changed(sent: Any, got: Any, where: str) -> str:
    kinds = type(sent).__name__, type(got).__name__
    change = (
        f"a {kinds[0]} comes back as another one"
        if kinds[0] == kinds[1]
        else (f"a {kinds[0]} comes back as a {kinds[1]}")
    )
    return f"{where or 'the value'}: {change}"
