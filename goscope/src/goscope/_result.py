"""Calling functions, the type that a decorated one returns, and decoding stored text to it."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from ._tools.codec import DecodeError, check_type, decode
from .errors import ConfigurationError, CorruptValue


async def result_of(function: Callable[..., Any], *args: Any) -> Any:
    """Call a plain or a coroutine function; await what it returns if that is awaitable."""
    result = function(*args)
    return await result if inspect.isawaitable(result) else result


def is_coroutine_function(function: object) -> bool:
    """Whether calling it gives a coroutine: an ``async def``, or an object with such a call."""
    if not callable(function):
        return False
    call: object = type(function).__call__
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call)


def require_coroutine_function(function: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` unless calling the function gives a coroutine."""
    kind = type(function).__name__
    if kind in ("classmethod", "staticmethod"):
        raise ConfigurationError(
            f"{_name(function)} is a {kind} already: write @{kind} above the decorator of goscope"
        )
    if not is_coroutine_function(function):
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"{name} must be a coroutine function: write it as async def")


def refuse_bare_decorator(argument: object, usage: str) -> None:
    """Raise ``TypeError`` for a decorator without parentheses, which is given the function."""
    if is_coroutine_function(argument):
        name = getattr(argument, "__qualname__", repr(argument))
        raise TypeError(
            f"the decorator of {name} lacks its parentheses and arguments: write {usage}"
        )


def return_type(
    function: Callable[..., Any], *, value_type: Callable[[Any], Any] | None = None
) -> Callable[[], Any]:
    """A function that returns the return annotation, None if there is none.

    ``value_type`` finds the type of the value to decode in the annotation.

    Raises `ConfigurationError` for an annotation that JSON cannot be decoded to: at once if all its
    names exist, else at the first call, before the decorated function is called.
    """
    require_coroutine_function(function)

    @functools.cache
    def lookup() -> Any:
        annotation = _return_annotation(function)
        # A TypeVar or Any does not say what to build.
        if annotation is Any or isinstance(annotation, typing.TypeVar):
            return None
        try:
            check_type(annotation if value_type is None else value_type(annotation))
        except ConfigurationError as exc:
            raise ConfigurationError(f"the result of {_name(function)}: {exc}") from exc
        return annotation

    def resolved() -> Any:
        try:
            return lookup()
        except NameError as exc:
            raise ConfigurationError(
                f"the return annotation of {_name(function)} cannot be resolved: {exc}. "
                f"Import the name at run time as well, or annotate the result as Any"
            ) from exc

    try:
        lookup()
    except NameError:
        pass  # it may name a class that is defined later
    return resolved


def require_type(type: Any) -> None:
    """Raise `ConfigurationError` unless JSON can be decoded to the type; None is any JSON."""
    try:
        check_type(type)
    except NameError as exc:
        raise ConfigurationError(
            f"JSON cannot be decoded to {type!r}: {exc}. Import the name at run time as well"
        ) from exc


def _return_annotation(function: Callable[..., Any]) -> Any:
    """The annotation, None if there is none. Raises ``NameError``."""
    annotations = getattr(function, "__annotations__", {})
    # Not the parameters, whose types may be imported for type checkers only.
    returns = types.SimpleNamespace(
        __annotations__={name: hint for name, hint in annotations.items() if name == "return"}
    )
    names = getattr(inspect.unwrap(function), "__globals__", {})
    return typing.get_type_hints(returns, names).get("return")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def decode_result(text: bytes, type: Any, key: str) -> Any:
    """Decode a result. Raises `CorruptValue` when the stored text does not fit the type."""
    try:
        return decode(text, type)
    except DecodeError as exc:
        raise CorruptValue(key, str(exc)) from exc
