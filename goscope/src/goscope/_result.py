"""What a decorated function returns: its annotated type, freshly decoded from the stored text."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any

from .backend import UndecodableText, decode
from .errors import ConfigurationError, CorruptValue


def require_coroutine_function(function: Callable[..., Any]) -> None:
    """Raise `ConfigurationError` for anything that cannot be awaited when called."""
    if not inspect.iscoroutinefunction(function):
        name = getattr(function, "__qualname__", repr(function))
        raise ConfigurationError(f"{name} must be a coroutine function: write it as async def")


def return_type(function: Callable[..., Any]) -> Callable[[], Any]:
    """A function that gives the return annotation, None if there is none.

    The annotation is looked up at the first call: at decoration its names may not exist yet.
    """
    require_coroutine_function(function)

    @functools.cache
    def lookup() -> Any:
        annotation = typing.get_type_hints(function).get("return")
        # A TypeVar or Any says nothing about what to build.
        return None if annotation is Any or isinstance(annotation, typing.TypeVar) else annotation

    return lookup


def decode_result(text: str, type: Any, key: str) -> Any:
    """Decode a result. Raises `CorruptValue` when the stored text does not fit the type."""
    try:
        return decode(text, type)
    except UndecodableText as exc:
        raise CorruptValue(key, str(exc)) from exc
