"""Keys made from the arguments of a decorated function."""

from __future__ import annotations

import hashlib
import inspect
import os
import string
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from ._tools.codec import encode
from ._tools.key import check_key
from .errors import ConfigurationError, SerializationError

_DIGEST_BYTES: Final = 16


class KeyTemplate:
    """A template such as ``"user:{user_id}"``, checked against the function it belongs to.

    Values are escaped (``%`` as ``%25``, ``:`` as ``%3A``), so that two calls with different values
    never share a key.
    """

    def __init__(self, template: str, signature: inspect.Signature) -> None:
        self._signature = signature
        self._parts = _parse(template)
        self._template = template
        for _, field in self._parts:
            if field is not None and field not in signature.parameters:
                names = ", ".join(signature.parameters) or "none"
                raise ConfigurationError(
                    f"key template {template!r} names {field!r}, which is not a parameter "
                    f"of the function (it has: {names})"
                )

    def render(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The key of one call. Raises ``TypeError`` and ``ValueError`` for unusable values."""
        values = _bind(self._signature, args, kwargs)
        rendered = (
            literal if field is None else literal + self._escape(field, values[field])
            for literal, field in self._parts
        )
        return check_key("".join(rendered), f"key of template {self._template!r}")

    def _escape(self, field: str, value: Any) -> str:
        text = _as_text(value)
        if not text:
            what = "None or empty" if value is None or value == "" else type(value).__name__
            raise ValueError(
                f"key template {self._template!r}: {field} is {what}, which cannot be part of a "
                f"key: pass a non-empty value"
            )
        return text.replace("%", "%25").replace(":", "%3A")


class DefaultKey:
    """Module, qualified name, and a digest of the bound arguments."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        name = function.__qualname__
        if "<" in name or next(iter(signature.parameters), "") in ("self", "cls"):
            kind = "a lambda or local function" if "<" in name else "a method"
            raise ConfigurationError(
                f"{name} is {kind}, whose name and arguments do not form a key: "
                f"pass one, such as key='user:{{user_id}}'"
            )
        self._signature = signature
        self._name = f"{_module(function)}.{name}"

    def render(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The key of one call. Raises `ConfigurationError` for arguments JSON cannot carry."""
        values = _bind(self._signature, args, kwargs)
        try:
            text = encode(values, canonical=True)
        except SerializationError as exc:
            raise ConfigurationError(
                f"the arguments of {self._name} do not form a key: {exc}. "
                f"Pass one that names what matters, such as key='user:{{user_id}}'"
            ) from exc
        digest = hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
        return check_key(f"{self._name}:{digest}")


def fingerprint_digest(value: Any) -> str:
    """A string that stands for the value: itself, or a digest of its canonical JSON."""
    if isinstance(value, str):
        return value
    text = encode(value, canonical=True)
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _parse(template: str) -> list[tuple[str, str | None]]:
    """The template as pairs of a literal and the name of the parameter that follows it."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ConfigurationError(f"key template {template!r}: {exc}") from None
    for _, field, spec, conversion in parts:
        if field is not None and (spec or conversion or not field.isidentifier()):
            raise ConfigurationError(
                f"key template {template!r} may hold plain parameter names only, "
                f"not {_written(field, spec, conversion)}"
            )
    if not template:
        raise ConfigurationError("the key template is empty")
    return [(literal, field) for literal, field, _, _ in parts]


def _written(field: str, spec: str | None, conversion: str | None) -> str:
    conversion = f"!{conversion}" if conversion else ""
    return f"{{{field}{conversion}{f':{spec}' if spec else ''}}}"


def _bind(
    signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _as_text(value: Any) -> str:
    """The text of a value that has an unambiguous one; "" for all others."""
    try:
        # Enums, UUIDs, dates and decimals have a plain form in JSON; containers have no text.
        plain: object = msgspec.to_builtins(value)
    except TypeError:
        return ""
    if isinstance(plain, (str, int, float)):
        return str(plain)
    return ""


def _module(function: Callable[..., Any]) -> str:
    """The function's module; for a script its file name, since all scripts share ``__main__``."""
    if function.__module__ == "__main__":
        path: str | None = getattr(sys.modules["__main__"], "__file__", None)
        if path:
            return os.path.splitext(os.path.basename(path))[0]
    return function.__module__
