"""Objects that frameworks take for the coroutine function they stand for.

`inspect` takes an object for a function when it has the attributes of one, and then reads in its
code that it is a coroutine function. Retry, scheduler and bot libraries ask for that before they
call.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, MutableMapping
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, cast


class FunctionLike:
    """An object with the attributes of the coroutine function that it wraps."""

    def __init__(self, function: Callable[..., Any]) -> None:
        inner = _innermost(function)
        self.__name__: str = getattr(inner, "__name__", type(function).__name__)
        self.__qualname__: str = getattr(inner, "__qualname__", self.__name__)
        self.__annotations__: dict[str, Any] = {}
        functools.update_wrapper(self, function)
        self.__defaults__ = getattr(function, "__defaults__", None)
        self.__kwdefaults__ = getattr(function, "__kwdefaults__", None)
        self.__globals__: dict[str, Any] = getattr(inner, "__globals__", {})
        self.__code__ = _coroutine_code(function, type(self).__call__)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<goscope.{type(self).__name__} {self.__qualname__}>"

    def __reduce__(self) -> str:
        return self.__qualname__  # pickled by reference, as functions are


class MethodLike:
    """A `FunctionLike` that is bound to an instance or a class; it has the function's attributes.

    As with bound methods, two of one function and one instance are equal.
    """

    def __init__(self, function: Any, instance: object) -> None:
        self.__func__: Any = function
        self.__self__ = instance
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__

    if not TYPE_CHECKING:  # type checkers would accept any name

        def __getattr__(self, name: str) -> Any:
            return getattr(self.__func__, name)

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__func__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MethodLike):
            return NotImplemented
        return self.__func__ is other.__func__ and self.__self__ is other.__self__

    def __hash__(self) -> int:
        return hash((id(self.__func__), id(self.__self__)))

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)


class _BindingClassMethod(classmethod):  # type: ignore[type-arg]  # not a class at run time
    """A classmethod that lets what it wraps bind itself, as all did before Python 3.13."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        cls = type(instance) if owner is None else owner
        function: Any = getattr(self, "__func__")  # noqa: B009  # untyped, as nothing binds like it
        return function.__get__(cls, type(cls))


class _ClassHook:
    """Stands in the body of a class until the class exists, then corrects its classmethods."""

    def __init__(self, function: FunctionLike) -> None:
        self._function = function

    def __set_name__(self, owner: type, name: str) -> None:
        with contextlib.suppress(AttributeError):
            delattr(owner, name)
        for attribute, member in list(vars(owner).items()):
            is_plain = type(member) is classmethod
            if is_plain and getattr(cast("object", member), "__func__", None) is self._function:
                setattr(owner, attribute, _BindingClassMethod(self._function))


def let_classmethods_bind(function: FunctionLike) -> None:
    """Make ``@classmethod`` above the function bind it through its ``__get__``.

    Python 3.13 makes a plain method of it instead, which does not know `MethodLike`. Nothing tells
    a function that ``@classmethod`` will be written above it, hence the hook in the class body.
    """
    if sys.hexversion < 0x030D0000:
        return
    body = _class_body(function.__qualname__, sys._getframe(1))
    if body is not None:
        body[f"__goscope_{function.__name__}__"] = _ClassHook(function)


def _class_body(qualname: str, frame: FrameType | None) -> MutableMapping[str, Any] | None:
    """The namespace of the class whose body is being executed, if the function belongs to it."""
    while frame is not None and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        frame = frame.f_back
    if frame is None or frame.f_locals is frame.f_globals:
        return None
    body: MutableMapping[str, Any] = frame.f_locals
    return body if qualname.rpartition(".")[0] == body.get("__qualname__") else None


def _innermost(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function in a `functools.partial`."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _coroutine_code(function: Callable[..., Any], call: Callable[..., Any]) -> CodeType:
    """The code of the function; that of ``call`` if it has none, or none of a coroutine."""
    code = getattr(function, "__code__", None)
    if isinstance(code, CodeType) and code.co_flags & inspect.CO_COROUTINE:
        return code
    return call.__code__
