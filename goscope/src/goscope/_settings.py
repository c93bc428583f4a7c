"""Resolving keywords, a URL, the environment or a file to one backend and its options."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_origin, get_type_hints
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from . import _plugins
from ._tools.choice import must_be, nearest
from ._tools.duration import milliseconds
from .backend import Backend
from .errors import ConfigurationError, InvalidOption
from .providers import PersistenceAdapter

URL_VARIABLE: Final = "GOSCOPE_URL"
FILES: Final = ("goscope.toml", "pyproject.toml")

_OPTION_IN_MESSAGE = re.compile(r"at `\$\.(\w+)|field `(\w+)`")


@dataclass(frozen=True, slots=True)
class Settings:
    """A backend and its options.

    ``source`` is where they come from, ``name`` what events call a scope on them; neither holds a
    password.
    """

    backend: Backend
    options: Any
    source: str
    name: str

    def open(self) -> PersistenceAdapter:
        """A new adapter, not connected yet. Raises `ConfigurationError` for invalid values."""
        try:
            return self.backend.open(self.options)
        except ConfigurationError:
            raise
        except ValueError as exc:  # such as an invalid duration
            raise ConfigurationError(f"{self.source}: {exc}") from exc


def resolve(url: str | None, backend: str | None, options: Mapping[str, Any]) -> Settings:
    """Decide what a scope opens; without URL and backend, from the environment or files.

    Raises `ConfigurationError` and its subclasses, which name the option and its source.
    """
    if url is not None and backend is not None:
        raise ConfigurationError("give a scope a URL or a backend, not both")
    if url is not None:
        return _from_url(url, "the URL", options)
    if backend is not None:
        return _from_mapping(backend, options, "the keywords of Scope")
    if options:
        names = ", ".join(sorted(options))
        raise ConfigurationError(f"options without a backend: {names}. Add backend= or a URL")
    return _from_environment()


def _from_environment() -> Settings:
    if url := os.environ.get(URL_VARIABLE):
        return _from_url(url, URL_VARIABLE, {})
    for name in FILES:
        table = _read_table(Path(name))
        if table is not None:
            return _from_table(table, name)
    raise ConfigurationError(
        f"no backend was chosen: pass one, such as Scope('sqlite:///app.db'), set {URL_VARIABLE}, "
        f"or write backend = 'sqlite' into goscope.toml or [tool.goscope] of pyproject.toml in "
        f"{_working_directory()}"
    )


def _working_directory() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted
        return "the working directory"


def _read_table(path: Path) -> dict[str, Any] | None:
    """goscope's settings in a TOML file, None if there are none."""
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as exc:
        raise ConfigurationError(f"{path} cannot be read: {exc}") from exc
    if path.name == "goscope.toml":
        return document
    tool: Any = document.get("tool", {})
    table: Any = cast("dict[str, Any]", tool).get("goscope") if isinstance(tool, dict) else tool
    if not isinstance(table, dict | None):
        raise ConfigurationError(f"tool and tool.goscope in {path} must be tables")
    return cast("dict[str, Any] | None", table)


def _from_table(table: dict[str, Any], source: str) -> Settings:
    options = dict(table)
    url = options.pop("url", None)
    backend = options.pop("backend", None)
    if (url is None) == (backend is None):
        raise ConfigurationError(f"{source} must set either url or backend for goscope")
    if url is not None:
        return _from_url(_text(url, "url", source), source, options)
    return _from_mapping(_text(backend, "backend", source), options, source)


def _text(value: Any, option: str, source: str) -> str:
    if not isinstance(value, str):
        raise InvalidOption(option, source, f"must be a string, not {type(value).__name__}")
    return value


def _from_mapping(name: str, options: Mapping[str, Any], source: str) -> Settings:
    backend = _plugins.find_backend(name)
    return Settings(backend, _build_options(backend, options, source, strict=True), source, name)


def _from_url(url: str, source: str, extra: Mapping[str, Any]) -> Settings:
    try:
        parts = urlsplit(url)
    except ValueError:  # its text may quote the password
        raise ConfigurationError(
            f"{source} {_without_password(url)!r} is not a valid URL"
        ) from None
    shown = _without_password(url)
    if not parts.scheme or "://" not in url:
        raise ConfigurationError(
            f"{source} {shown!r} names no backend: write it as sqlite:///app.db"
        )
    _check_port(parts, f"{source} {shown!r}")
    backend = _plugins.find_backend_of_scheme(parts.scheme)
    options: dict[str, Any] = {}
    if backend.url_options is not None:
        try:
            options.update(backend.url_options(parts))
        except ValueError as exc:
            raise ConfigurationError(f"{source} {shown!r}: {exc}") from exc
    elif parts.netloc or parts.path.strip("/"):
        raise ConfigurationError(
            f"{source} {shown!r}: backend {backend.name!r} takes neither host nor path, "
            f"write {parts.scheme}://"
        )
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name in options:
            raise InvalidOption(name, f"{source} {shown!r}", "is given twice")
        options[name] = value
    options.update(extra)
    source = f"{source} {shown!r}"
    return Settings(
        backend,
        _build_options(backend, options, source, strict=False),
        source,
        _without_login(shown),
    )


def _check_port(parts: SplitResult, source: str) -> None:
    try:
        _ = parts.port
    except ValueError:  # its text quotes what may be the password, up to its first slash
        raise ConfigurationError(
            f"{source} has an invalid port: write a number from 0 to 65535, and "
            f"percent-encode special characters in a user name or password"
        ) from None


def _without_password(url: str) -> str:
    """The URL as it may be shown: no password, and no query, which may hold secrets as well.

    Works on the text: a parser does not find a password with an unescaped ``/``, ``?`` or ``#``.
    When in doubt it hides too much.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    login, _, host = rest.rpartition("@")
    if ":" in login:
        rest = f"{login.partition(':')[0]}:***@{host}"
    return re.split(r"[?#]", f"{scheme}{mark}{rest}", maxsplit=1)[0]


def _without_login(shown: str) -> str:
    """The URL that `_without_password` returned, without the user too."""
    scheme, mark, rest = shown.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"


def _build_options(
    backend: Backend, options: Mapping[str, Any], source: str, *, strict: bool
) -> Any:
    known = _field_names(backend.options)
    for name in options:
        if name not in known:
            hint = nearest(name, known) or f": it has {', '.join(known) or 'none'}"
            raise InvalidOption(name, source, f"backend {backend.name!r} has no such option{hint}")
    plain = {name: _plain(value) for name, value in options.items()}
    try:
        return msgspec.convert(plain, backend.options, strict=strict)
    except (msgspec.ValidationError, ConfigurationError) as exc:
        found = _OPTION_IN_MESSAGE.search(str(exc))
        name = (found[1] or found[2]) if found else "options"
        reason = _reason(backend.options, name, plain.get(name), exc)
        raise InvalidOption(name, source, reason) from exc


def _reason(options: type[Any], name: str, value: object, exc: Exception) -> str:
    """What is wrong with an option. Quotes only what no secret is: a choice that does not exist."""
    wanted = get_type_hints(options).get(name)
    choices = [it for it in (wanted, *get_args(wanted)) if get_origin(it) is Literal]
    if choices:  # Literal[...], or Literal[...] | None
        return must_be(value, get_args(choices[0]))
    if wanted is str and isinstance(value, int | float):
        return "must be a string, not a number; a duration has a unit, such as '5s'"
    if wanted is bool:
        return "must be true or false"
    return str(exc)


def _field_names(options: type[Any]) -> list[str]:
    names = getattr(options, "__struct_fields__", None) or options.__dataclass_fields__
    return list(names)


def _plain(value: Any) -> Any:
    """The string for a path or duration object: options types have strings for both."""
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if isinstance(value, timedelta):
        return f"{milliseconds(value)}ms"
    return value
