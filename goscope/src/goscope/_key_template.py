"""Keys and fingerprints made from the arguments of a decorated function."""

from __future__ import annotations

import inspect
import operator
import os
import re
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

import msgspec

from ._tools.choice import nearest
from ._tools.digest import digest, module_of
from ._tools.key import check_key
from ._tools.round_trip import class_of
from .errors import ConfigurationError, SerializationError

KeySource: TypeAlias = str | Callable[..., str]
"""A template over the parameters, or a function of the same arguments."""

FingerprintSource: TypeAlias = str | Sequence[str] | Callable[..., Any]
"""A template, the names of parameters, or a function of the same arguments."""

Arguments: TypeAlias = tuple[Any, ...]
Keywords: TypeAlias = Mapping[str, Any]

NONE: Final = "%None"
"""None in a key: no value is written like this, since ``%`` is escaped in values."""

_FIELD: Final = re.compile(r"(?P<path>[^\W\d]\w*(?:\.[^\W\d]\w*)*)(?P<optional>\??)")


class KeyMaker(Protocol):
    """What makes the key of one call."""

    @property
    def template(self) -> str:
        """What events name as the template of the keys."""
        ...

    def render(self, args: Arguments, kwargs: Keywords) -> str:
        """The key of a call with these arguments."""
        ...


class _Field(NamedTuple):
    """A value in a template: a parameter or an attribute of one."""

    path: tuple[str, ...]
    optional: bool
    escapes: dict[int, str]


class KeyTemplate:
    """A template such as ``"user:{user_id}"``, checked against the function it belongs to.

    ``{self.table}`` is an attribute of a parameter, ``{user_id?}`` one that may be None or empty.
    In values ``%``, ``:`` and the character that follows the field are escaped (``%25``, ``%3A``),
    so two calls with different texts never share a key.
    """

    def __init__(self, template: str, signature: inspect.Signature) -> None:
        self._signature = signature
        self._parts = _parse(template)
        self.template: Final = template
        for part in self._parts:
            if isinstance(part, _Field):
                _require_parameter(f"key template {template!r}", part.path[0], signature)

    def render(self, args: Arguments, kwargs: Keywords) -> str:
        """The key of one call. Raises ``TypeError`` and ``ValueError`` for unusable values."""
        values = _bind(self._signature, args, kwargs)
        rendered = (
            part if isinstance(part, str) else self._text(part, values) for part in self._parts
        )
        return check_key("".join(rendered), f"key of template {self.template!r}")

    def _text(self, field: _Field, values: Mapping[str, Any]) -> str:
        value = self._look_up(field, values)
        if field.optional and (value is None or value == ""):
            return NONE if value is None else ""
        text = _as_text(value)
        if not text:
            name = ".".join(field.path)
            if value is None or value == "":
                advice = f"pass a non-empty value, or write {{{name}?}} to allow both"
                what = "None or empty"
            else:
                advice = "name an attribute of it, or pass a function as the key"
                what = type(value).__name__
            raise ValueError(
                f"key template {self.template!r}: {name} is {what}, which cannot be part of a "
                f"key: {advice}"
            )
        return text.translate(field.escapes)

    def _look_up(self, field: _Field, values: Mapping[str, Any]) -> Any:
        value = values[field.path[0]]
        for name in field.path[1:]:
            if value is None and field.optional:
                return None
            try:
                value = getattr(value, name)
            except AttributeError as exc:
                raise ConfigurationError(
                    f"key template {self.template!r}: {'.'.join(field.path)}: {exc}"
                ) from exc
        return value


class DefaultKey:
    """Module, qualified name, and a digest of the bound arguments."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        name = _name(function)
        if "<" in name or next(iter(signature.parameters), "") in ("self", "cls"):
            kind = "a lambda or local function" if "<" in name else "a method"
            raise ConfigurationError(
                f"{name} is {kind}, whose name and arguments do not form a key: "
                f"pass one, such as key='user:{{user_id}}'"
            )
        self._signature = signature
        self.template: Final = f"{module_of(function)}.{name}"

    def render(self, args: Arguments, kwargs: Keywords) -> str:
        """The key of one call. Raises `ConfigurationError` for arguments without a content."""
        values = _bind(self._signature, args, kwargs)
        try:
            arguments = digest([[name, value] for name, value in values.items()])
        except SerializationError as exc:
            raise ConfigurationError(
                f"the arguments of {self.template} do not form a key: {exc}. "
                f"Pass one that names what matters, such as key='user:{{user_id}}'"
            ) from exc
        return check_key(f"{self.template}:{arguments}")


class KeyFunction:
    """A function of the same arguments, which returns the key."""

    def __init__(self, key: Callable[..., str], function: Callable[..., Any]) -> None:
        _require_plain(key, "key")
        self._key = key
        self.template: Final = f"{module_of(function)}.{_name(function)}"

    def render(self, args: Arguments, kwargs: Keywords) -> str:
        """The key of one call. Raises ``TypeError`` and ``ValueError`` for what is not a key."""
        return check_key(self._key(*args, **kwargs), f"key of {_name(self._key)}")


class Fingerprint:
    """What stands for the payload of a call: a template, names of parameters, or a function."""

    def __init__(self, source: FingerprintSource, signature: inspect.Signature) -> None:
        self._signature = signature
        self._template = KeyTemplate(source, signature) if isinstance(source, str) else None
        self._function = source if callable(source) else None
        self._names = [] if isinstance(source, str) or callable(source) else list(source)
        if self._function is not None:
            _require_plain(self._function, "fingerprint")
        for name in self._names:
            _require_parameter("fingerprint", name, signature)

    def of(self, args: Arguments, kwargs: Keywords) -> Any:
        """The payload of one call."""
        if self._template is not None:
            return self._template.render(args, kwargs)
        if self._function is not None:
            return self._function(*args, **kwargs)
        values = _bind(self._signature, args, kwargs)
        return [[name, values[name]] for name in self._names]


def key_maker(
    source: KeySource, signature: inspect.Signature, function: Callable[..., Any]
) -> KeyMaker:
    """What makes the keys of a function. Raises `ConfigurationError`."""
    return KeyFunction(source, function) if callable(source) else KeyTemplate(source, signature)


def fingerprint_digest(value: Any) -> str:
    """A string that stands for the value: itself, or a digest of its content."""
    return value if isinstance(value, str) else digest(value)


def _require_parameter(what: str, name: str, signature: inspect.Signature) -> None:
    names = list(signature.parameters)
    if name not in names:
        known = ", ".join(names) or "none"
        raise ConfigurationError(
            f"{what} names {name!r}, which is not a parameter of the function (it has: {known})"
            f"{nearest(name, names)}"
        )


def _parse(template: str) -> list[str | _Field]:
    """The template as literals and fields; no two fields are adjacent."""
    if not isinstance(template, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # untyped callers
        raise TypeError(
            f"a key template must be a string such as 'user:{{user_id}}', "
            f"not {type(template).__name__}"
        )
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as exc:
        raise ConfigurationError(f"key template {template!r}: {exc}") from None
    if not template:
        raise ConfigurationError("the key template is empty")
    parts: list[str | tuple[str, str]] = []
    for literal, field, spec, conversion in parsed:
        if literal and parts and isinstance(parts[-1], str):
            parts[-1] += literal
        elif literal:
            parts.append(literal)
        if field is None:
            continue
        match = _FIELD.fullmatch(field)
        if match is None or spec or conversion:
            raise ConfigurationError(
                f"key template {template!r} may hold parameters, such as {{user_id}}, their "
                f"attributes, such as {{self.table}}, and optional ones, such as {{user_id?}}, "
                f"not {_written(field, spec, conversion)}"
            )
        if parts and not isinstance(parts[-1], str):
            raise ConfigurationError(
                f"key template {template!r}: nothing separates {{{field}}} from the field before "
                f"it, so that different values could share a key: write a character between them"
            )
        parts.append((match["path"], match["optional"]))
    following = [*parts[1:], ""]
    return [
        part if isinstance(part, str) else _field(*part, str(after)[:1])
        for part, after in zip(parts, following, strict=True)
    ]


def _field(path: str, optional: str, after: str) -> _Field:
    escapes = {
        ord(character): "".join(f"%{byte:02X}" for byte in character.encode())
        for character in f"%:{after}"
    }
    return _Field(tuple(path.split(".")), bool(optional), escapes)


def _written(field: str, spec: str | None, conversion: str | None) -> str:
    conversion = f"!{conversion}" if conversion else ""
    return f"{{{field}{conversion}{f':{spec}' if spec else ''}}}"


def _bind(signature: inspect.Signature, args: Arguments, kwargs: Keywords) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def _as_text(value: Any) -> str:
    """The text of a value that has an unambiguous one; "" for all others."""
    cls = class_of(value)
    if any(issubclass(cls, base) and cls.__str__ is base.__str__ for base in (str, int, float)):
        return str(value)  # a subclass, too
    if isinstance(value, os.PathLike):
        return _as_text(os.fspath(cast("os.PathLike[str]", value)))
    try:
        # Enums, UUIDs, dates and decimals have a plain form in JSON; containers have no text.
        plain: object = msgspec.to_builtins(value)
    except TypeError:
        try:
            return str(operator.index(value))  # such as an integer of numpy
        except TypeError:
            return ""
    if isinstance(plain, (str, int, float)):
        return str(plain)
    return ""


def _require_plain(function: Callable[..., Any], what: str) -> None:
    if inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"{what}= must be a plain function, and {_name(function)} is a coroutine function"
        )


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
