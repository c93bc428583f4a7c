"""Finding and loading plugins: the only module that knows entry points and pluggy."""

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
SCHEMES: Final = "goscope.schemes"
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
            "both provide it; uninstall one",
        )
    return _load_backend(found[0])


def find_backend_of_scheme(scheme: str) -> Backend:
    """The backend that opens URLs of this scheme; imports its plugin and no other.

    It is the backend of that name, else the one whose plugin object an entry point named after the
    scheme (group ``goscope.schemes``) names. Raises as `find_backend` does.
    """
    if scheme not in installed_backends():
        plugins = {point.value for point in _entry_points(SCHEMES) if point.name == scheme}
        for point in _entry_points(BACKENDS):
            if point.value in plugins:
                return find_backend(point.name)
    return find_backend(scheme)


@functools.cache
def plugin_observers() -> tuple[Observer, ...]:
    """One observer for each installed observer plugin that loads.

    A broken plugin is skipped with a warning that names its distribution.
    """
    manager = _manager()
    for point in _selected(_entry_points(OBSERVERS)):
        try:
            # Two distributions may give their plugins one name; the value is another one.
            _register(manager, point.load(), f"{point.name} = {point.value}")
        except Exception as exc:  # a third party's import may raise anything
            warnings.warn(
                f"goscope plugin {point.name!r} from {_distribution(point)} is skipped: {exc!r}",
                RuntimeWarning,
                stacklevel=2,
            )
    listening = [found.plugin for found in manager.hook.goscope_event.get_hookimpls()]
    return tuple(_as_observer(manager, plugin) for plugin in listening)


def _as_observer(manager: pluggy.PluginManager, plugin: object) -> Observer:
    """The plugin's hook as an observer, so that its failure affects no other plugin."""
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
    except Exception as exc:  # a third party's import may raise anything
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
    """Register all hooks of a plugin, or none."""
    for attribute in dir(plugin):
        if manager.parse_hookimpl_opts(plugin, attribute) is None:
            continue
        function = getattr(plugin, attribute)
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigurationError(
                f"{attribute} must be a plain function: hooks are synchronous; "
                f"return objects whose methods are asynchronous"
            )
    try:
        manager.register(plugin, name)
        manager.check_pending()  # refuses a misspelt hook, which would never be called
    except Exception:
        if manager.has_plugin(name):  # before pluggy 1.7 a failed registration stays registered
            manager.unregister(name=name)
        raise


def _entry_points(group: str) -> list[metadata.EntryPoint]:
    """The entry points of the group, without duplicates.

    An editable workspace beside its installed members lists the same entry point twice.
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
