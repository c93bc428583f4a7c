"""The typed front of the plugin manager: the one place that knows entry points and pluggy."""

from __future__ import annotations

import functools
import inspect
import os
import warnings
from collections.abc import Iterator
from importlib import metadata
from typing import Any, Final

import pluggy

from .backend import Backend
from .errors import BackendLoadError, ConfigurationError, UnknownBackend
from .events import Event, Observer
from .hookspecs import PROJECT, GoscopeHooks

BACKENDS: Final = "goscope.backends"
OBSERVERS: Final = "goscope.plugins"
SELECTION: Final = "GOSCOPE_PLUGINS"
"""Environment variable: comma-separated names of the observer plugins to load, or "none"."""


def installed_backends() -> tuple[str, ...]:
    """The names of all installed backends; imports none of them."""
    return tuple(sorted({point.name for point in _entry_points(BACKENDS)}))


@functools.cache
def find_backend(name: str) -> Backend:
    """The backend with this name; imports its plugin and no other.

    Raises `UnknownBackend` when none is installed, `BackendLoadError` when it is broken or when
    two distributions provide it.
    """
    found = [point for point in _entry_points(BACKENDS) if point.name == name]
    if not found:
        raise UnknownBackend(name, installed_backends())
    if len(found) > 1:
        raise BackendLoadError(
            name,
            " and ".join(_distribution(point) for point in found),
            "they provide it both, and which one is meant cannot be told",
        )
    return _load_backend(found[0])


def find_backend_of_scheme(scheme: str) -> Backend:
    """The backend that opens URLs of this scheme: the one of that name, else one that claims it."""
    names = installed_backends()
    if scheme in names:
        return find_backend(scheme)
    for name in names:
        try:
            backend = find_backend(name)
        except BackendLoadError:
            continue  # broken, but not known to be the one that was asked for
        if scheme in backend.schemes:
            return backend
    raise UnknownBackend(scheme, names)


@functools.cache
def plugin_observers() -> tuple[Observer, ...]:
    """One observer for each installed observer plugin that can be used.

    A broken plugin is skipped with a warning that names its distribution.
    """
    manager = _manager()
    for point in _selected(_entry_points(OBSERVERS)):
        try:
            _register(manager, point.load(), point.name)
        except Exception as exc:  # whatever a third party's import may raise
            warnings.warn(
                f"goscope plugin {point.name!r} from {_distribution(point)} is skipped: {exc!r}",
                RuntimeWarning,
                stacklevel=2,
            )
    listening = [found.plugin for found in manager.hook.goscope_event.get_hookimpls()]
    return tuple(_as_observer(manager, plugin) for plugin in listening)


def _as_observer(manager: pluggy.PluginManager, plugin: object) -> Observer:
    """The plugin's own hook as an observer, so that its failures are nobody else's."""
    others = [other for other in manager.get_plugins() if other is not plugin]
    hook = manager.subset_hook_caller("goscope_event", others)

    def observer(event: Event) -> None:
        hook(event=event)

    return observer


def _load_backend(point: metadata.EntryPoint) -> Backend:
    distribution = _distribution(point)
    manager = _manager()
    try:
        _register(manager, point.load(), point.name)
        backends = [backend for found in manager.hook.goscope_backends() for backend in found]
    except Exception as exc:  # whatever a third party's import may raise
        raise BackendLoadError(point.name, distribution, repr(exc)) from exc
    for backend in backends:
        if isinstance(backend, Backend) and backend.name == point.name:
            return backend
    named = ", ".join(repr(getattr(backend, "name", backend)) for backend in backends) or "nothing"
    raise BackendLoadError(
        point.name, distribution, f"its plugin registers {named}, not a Backend of that name"
    )


def _manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(GoscopeHooks)
    return manager


def _register(manager: pluggy.PluginManager, plugin: Any, name: str) -> None:
    """Register a plugin whole, or not at all."""
    for attribute in dir(plugin):
        if manager.parse_hookimpl_opts(plugin, attribute) is None:
            continue
        function = getattr(plugin, attribute)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"{attribute} must be a plain function: hooks register and notify; "
                f"let them return objects whose methods are asynchronous"
            )
    try:
        manager.register(plugin, name)
        manager.check_pending()  # a misspelt hook would otherwise never be called
    except Exception:
        if manager.has_plugin(name):  # before pluggy 1.7 a failed registration stays behind
            manager.unregister(name=name)
        raise


def _entry_points(group: str) -> list[metadata.EntryPoint]:
    """The entry points of the group, each once.

    An editable workspace beside its installed members lists the same one twice.
    """
    points = {(point.name, point.value): point for point in metadata.entry_points(group=group)}
    return list(points.values())


def _selected(points: list[metadata.EntryPoint]) -> Iterator[metadata.EntryPoint]:
    selection = os.environ.get(SELECTION)
    if selection is None:
        yield from points
        return
    names = {name.strip() for name in selection.split(",") if name.strip()} - {"none"}
    yield from (point for point in points if point.name in names)
    for unknown in sorted(names - {point.name for point in points}):
        warnings.warn(
            f"{SELECTION} names the plugin {unknown!r}, which is not installed",
            RuntimeWarning,
            stacklevel=2,
        )


def _distribution(point: metadata.EntryPoint) -> str:
    distribution = point.dist
    return f"{distribution.name} {distribution.version}" if distribution else point.value
