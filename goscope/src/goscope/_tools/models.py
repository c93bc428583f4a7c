"""Objects with ``model_dump`` and ``model_validate``, above all pydantic models, as JSON values.

A pydantic model is written by the names of its fields, whatever their aliases, without computed
fields, and read in JSON mode, so that strict models accept what JSON made of their values.
"""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec

from .round_trip import class_of, difference


def is_model_type(type: Any) -> bool:
    """Whether values of the type are written by ``model_dump`` and read by ``model_validate``."""
    return hasattr(type, "model_validate")


def dump(model: Any) -> Any:
    """The model as a JSON value. Raises ``TypeError`` unless an equal model can be read back."""
    cls = class_of(model)
    if not _is_pydantic(cls):
        return model.model_dump(mode="json")
    by_alias = not _by_name(cls)
    data = model.model_dump(mode="json", by_alias=by_alias, round_trip=True, warnings=False)
    try:
        lost = difference(model, load(cls, data))
    except ValueError as exc:  # pydantic's ValidationError
        if has_non_finite(data):
            return data  # the caller names what JSON cannot carry
        lost = str(exc)
    if lost is not None:
        raise TypeError(f"{cls.__name__} does not come back as it was: {lost}")
    return data


def load(cls: Any, data: Any) -> Any:
    """The model that a JSON value stands for. Raises ``ValueError``."""
    if not _is_pydantic(cls):
        return cls.model_validate(data)
    return cls.model_validate_json(msgspec.json.encode(data), **_by_name(cls))


def refusal(cls: Any) -> str | None:
    """Why no model of this class can come back as it was, None if it can."""
    for name, field in _fields(cls).items():
        if getattr(field, "exclude", None):
            return f"its field {name!r} is excluded"
    for held in _held_types(cls):
        if hasattr(held, "get_secret_value"):
            return f"it holds a {held.__name__}, which is masked when it is stored"
        for name, field in _fields(held).items():
            if getattr(field, "exclude", None):
                return f"the field {name!r} of {held.__name__} is excluded"
    return None


def has_non_finite(data: Any) -> bool:
    """Whether nested builtins hold a NaN or an infinity."""
    kind = class_of(data)
    if kind is float:
        return not math.isfinite(data)
    if kind is dict:
        return any(has_non_finite(item) for item in data.values())
    return kind in (list, tuple) and any(has_non_finite(item) for item in data)


def _is_pydantic(cls: Any) -> bool:
    return hasattr(cls, "__pydantic_validator__")


@lru_cache(maxsize=256)
def _by_name(cls: Any) -> dict[str, bool]:
    """The options that make a model accept the names of its fields; none before pydantic 2.11."""
    known = inspect.signature(cls.model_validate_json).parameters
    return {"by_alias": False, "by_name": True} if "by_name" in known else {}


def _fields(cls: Any) -> dict[str, Any]:
    return getattr(cls, "model_fields", {}) if isinstance(cls, type) else {}


def _held_types(cls: Any) -> Iterable[type]:
    """The classes that the annotations of a model name, those of nested models included."""
    seen: set[type] = set()
    pending = [field.annotation for field in _fields(cls).values()]
    while pending:
        annotation = pending.pop()
        pending += typing.get_args(annotation)
        held = typing.get_origin(annotation) or annotation
        if isinstance(held, type) and held not in seen:
            seen.add(held)
            pending += [field.annotation for field in _fields(held).values()]
    return seen
