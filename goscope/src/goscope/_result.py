"""The type that a decorated function returns, and decoding stored text to it."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from ._tools.codec import DecodeError, decode
from .errors import ConfigurationError, CorruptValue


def is_coroutine_function(function: object) -> bool:
    """Whether calling it gives a coroutine: an ``async def``, or an object with such a call."""
    if not callable(function):
        return False
    call: object = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def require_coroutine_function(function: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` unless calling the function gives a coroutine."""
    if not is_coroutine_function(function):
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"{name} must be a coroutine function: write it as async def")


def return_type(function: Callable[..., Any]) -> Callable[[], Any]:
    """A function that returns the return annotation, None if there is none.

    It resolves the annotation at its first call: at decoration its names may not exist yet.
    """
    require_coroutine_function(function)

    @functools.cache
    def lookup() -> Any:
        annotation = _return_annotation(function)
        # A TypeVar or Any does not say what to build.
        return None if annotation is Any or isinstance(annotation, typing.TypeVar) else annotation

    return lookup


def _return_annotation(function: Callable[..., Any]) -> Any:
    annotations = getattr(function, "__annotations__", {})
    # Not the parameters, whose types may be imported for type checkers only.
    returns = types.SimpleNamespace(
        __annotations__={name: hint for name, hint in annotations.items() if name == "return"}
    )
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return typing.get_type_hints(returns, names).get("return")
    except NameError as exc:
        raise ConfigurationError(
            f"the return annotation of {function.__qualname__} cannot be resolved: {exc}. "
            f"Import the name at run time as well, or annotate the result as Any"
        ) from exc


def decode_result(text: bytes, type: Any, key: str) -> Any:
    """Decode a result. Raises `CorruptValue` when the stored text does not fit the type."""
    try:
        return decode(text, type)
    except DecodeError as exc:
        raise CorruptValue(key, str(exc)) from exc
