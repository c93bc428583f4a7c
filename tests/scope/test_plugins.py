"""Backends and observers from installed distributions: found, imported, refused, reported."""

from __future__ import annotations

import importlib
import logging
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from goscope import BackendLoadError, Scope, UnknownBackend, _plugins
from goscope.backend import Backend
from goscope.memory import MemoryAdapter

BACKEND = """
from goscope.backend import Backend
from goscope.hookspecs import hookimpl
from goscope.memory import MemoryAdapter, MemoryOptions

@hookimpl
def goscope_backends():
    return [
        Backend(
            name="{name}",
            summary="a backend",
            options=MemoryOptions,
            open=lambda options: MemoryAdapter(),
        )
    ]
"""

OBSERVER = """
from goscope.hookspecs import hookimpl

events = []

@hookimpl
def goscope_event(event):
    events.append(event)
"""

RAISES = "raise RuntimeError('out of order')\n"


class Site:
    """A folder on the path, in which distributions can be installed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.modules: list[str] = []

    def install(self, name: str, group: str, **modules: str) -> None:
        """A distribution with one module for each entry point; ``a_b`` for the name ``a-b``."""
        info = self._folder / f"{name.replace('-', '_')}-6.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 6.5\n")
        lines = [f"[{group}]"]
        for module, text in modules.items():
            unique = f"{info.stem.partition('-')[0]}_{module}"
            (self._folder / f"{unique}.py").write_text(textwrap.dedent(text))
            lines.append(f"{module.replace('_', '-')} = {unique}")
            self.modules.append(unique)
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    def imported(self) -> list[str]:
        """The installed modules that were imported."""
        return [module for module in self.modules if module in sys.modules]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Distributions beside the really installed ones; nothing of them stays behind."""
    folder = tmp_path / "site"
    folder.mkdir()
    made = Site(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    importlib.invalidate_caches()
    _forget()
    yield made
    _forget()
    for module in made.imported():
        del sys.modules[module]


def _forget() -> None:
    _plugins.find_backend.cache_clear()
    _plugins.plugin_observers.cache_clear()


def install_backends(site: Site, **modules: str) -> None:
    site.install("acme-goscope", _plugins.BACKENDS, **modules)


def install_observers(site: Site, **modules: str) -> None:
    site.install("acme-goscope", _plugins.OBSERVERS, **modules)


async def use(backend: str = "memory") -> None:
    """One event's worth of a scope."""
    async with Scope(backend=backend) as gs:
        await gs.cache.get("key")


# --- backends --------------------------------------------------------------------------------


def test_the_memory_backend_is_a_plugin_as_any_other() -> None:
    (point,) = {
        (point.name, point.value)
        for point in metadata.entry_points(group="goscope.backends")
        if point.name == "memory"
    }
    assert point == ("memory", "goscope.memory")
    assert _plugins.find_backend("memory").name == "memory"


@pytest.mark.asyncio
async def test_an_installed_backend_is_found_by_name_and_by_url(site: Site) -> None:
    install_backends(site, acme=BACKEND.format(name="acme"))
    for gs in (Scope(backend="acme"), Scope("acme://"), Scope("acme+other://")):
        async with gs:
            assert isinstance(gs.persistence, MemoryAdapter)


@pytest.mark.asyncio
async def test_only_the_chosen_backend_is_imported(site: Site) -> None:
    install_backends(site, one=BACKEND.format(name="one"), two=BACKEND.format(name="two"))
    assert {"one", "two", "memory"} <= set(_plugins.installed_backends())
    assert site.imported() == []
    async with Scope(backend="two"):
        assert site.imported() == ["acme_goscope_two"]
    async with Scope("two://"):
        assert site.imported() == ["acme_goscope_two"]


@pytest.mark.asyncio
async def test_a_broken_backend_disturbs_nobody_until_it_is_chosen(site: Site) -> None:
    install_backends(site, broken=RAISES, two=BACKEND.format(name="two"))
    await use("two")
    async with Scope("two+other://"):  # which is searched for among all of them
        pass
    with pytest.raises(BackendLoadError) as caught:
        await use("broken")
    error = caught.value
    assert (error.name, error.distribution) == ("broken", "acme-goscope 6.5")
    assert "out of order" in str(error)
    assert "Reinstall or upgrade acme-goscope" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


BROKEN = {
    "an import that fails": ("import acme_driver_nobody_has", "acme_driver_nobody_has"),
    "no hook at all": ("", "registers nothing"),
    "another name": (BACKEND.format(name="other"), "registers 'other', not a Backend"),
    "not a Backend": (
        """
        from goscope.hookspecs import hookimpl

        @hookimpl
        def goscope_backends():
            return ["acme"]
        """,
        "registers 'acme', not a Backend",
    ),
    "a hook that raises": (
        """
        from goscope.hookspecs import hookimpl

        @hookimpl
        def goscope_backends():
            raise RuntimeError("out of order")
        """,
        "out of order",
    ),
    "a coroutine hook": (
        """
        from goscope.hookspecs import hookimpl

        @hookimpl
        async def goscope_backends():
            return []
        """,
        "goscope_backends must be a plain function",
    ),
    "a misspelt hook": (
        """
        from goscope.hookspecs import hookimpl

        @hookimpl
        def goscope_backend():
            return []
        """,
        "goscope_backend",
    ),
    "a parameter nobody passes": (
        """
        from goscope.hookspecs import hookimpl

        @hookimpl
        def goscope_backends(config):
            return []
        """,
        "config",
    ),
}


@pytest.mark.parametrize(("text", "reason"), BROKEN.values(), ids=BROKEN)
@pytest.mark.asyncio
async def test_every_way_to_be_broken_is_a_backend_load_error(
    site: Site, text: str, reason: str
) -> None:
    install_backends(site, acme=text)
    with pytest.raises(BackendLoadError, match=r"backend 'acme' from acme-goscope 6\.5") as caught:
        await use("acme")
    assert reason in str(caught.value)


@pytest.mark.asyncio
async def test_a_broken_backend_is_tried_again(site: Site, tmp_path: Path) -> None:
    install_backends(site, acme=RAISES)
    with pytest.raises(BackendLoadError):
        await use("acme")
    (tmp_path / "site" / "acme_goscope_acme.py").write_text(BACKEND.format(name="acme"))
    await use("acme")


@pytest.mark.asyncio
async def test_an_unknown_backend_imports_none(site: Site) -> None:
    install_backends(site, acme=RAISES)
    with pytest.raises(UnknownBackend) as caught:
        await use("acne")
    assert "acme" in caught.value.installed
    assert site.imported() == []


@pytest.mark.asyncio
async def test_two_distributions_with_one_backend_are_refused(site: Site) -> None:
    site.install("acme-one", _plugins.BACKENDS, acme=BACKEND.format(name="acme"))
    site.install("acme-two", _plugins.BACKENDS, acme=BACKEND.format(name="acme"))
    with pytest.raises(BackendLoadError) as caught:
        await use("acme")
    assert "acme-one 6.5" in str(caught.value)
    assert "acme-two 6.5" in str(caught.value)
    assert site.imported() == []


@pytest.mark.asyncio
async def test_the_same_entry_point_listed_twice_is_one(site: Site) -> None:
    """An editable workspace beside an installed member of it."""
    for name in ("acme-one", "acme-two"):
        site.install(name, _plugins.BACKENDS)
    for info in ("acme_one", "acme_two"):
        points = Path(sys.path[0]) / f"{info}-6.5.dist-info" / "entry_points.txt"
        points.write_text("[goscope.backends]\nacme = acme_shared\n")
    (Path(sys.path[0]) / "acme_shared.py").write_text(BACKEND.format(name="acme"))
    site.modules.append("acme_shared")
    assert _plugins.installed_backends().count("acme") == 1
    assert isinstance(_plugins.find_backend("acme"), Backend)


# --- observers -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_observer_plugin_gets_the_events_of_every_scope(site: Site) -> None:
    install_observers(site, counts=OBSERVER)
    await use()
    await use()
    events = sys.modules["acme_goscope_counts"].events
    assert [event.key for event in events] == ["key", "key"]


@pytest.mark.asyncio
async def test_each_of_several_observers_gets_each_event_once(site: Site) -> None:
    install_observers(site, one=OBSERVER, two=OBSERVER, three=OBSERVER)
    await use()
    counts = [len(sys.modules[module].events) for module in site.modules]
    assert counts == [1, 1, 1]


@pytest.mark.asyncio
async def test_no_observer_is_imported_before_a_scope_opens(site: Site) -> None:
    install_observers(site, counts=OBSERVER)
    gs = Scope(backend="memory")
    assert site.imported() == []
    async with gs:
        assert site.imported() == ["acme_goscope_counts"]


@pytest.mark.asyncio
async def test_after_closing_no_observer_is_left_on_the_scope(site: Site) -> None:
    install_observers(site, counts=OBSERVER)
    gs = Scope(backend="memory")
    for _ in range(2):
        async with gs:
            await gs.cache.get("key")
    assert len(sys.modules["acme_goscope_counts"].events) == 2
    assert gs._observers.active is False


@pytest.mark.asyncio
async def test_a_plugin_that_observes_nothing_costs_nothing(site: Site) -> None:
    install_observers(site, idle="")
    async with Scope(backend="memory") as gs:
        assert gs._observers.active is False


COROUTINE = """
from goscope.hookspecs import hookimpl

@hookimpl
async def goscope_event(event): ...
"""

MISSPELT = """
from goscope.hookspecs import hookimpl

@hookimpl
def goscope_events(event): ...
"""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (RAISES, "out of order"),
        (COROUTINE, "goscope_event must be a plain function"),
        (MISSPELT, "goscope_events"),
    ],
    ids=["raises", "coroutine", "misspelt"],
)
@pytest.mark.asyncio
async def test_a_broken_observer_is_skipped_with_a_warning_and_the_others_go_on(
    site: Site, text: str, reason: str
) -> None:
    install_observers(site, broken=text, counts=OBSERVER)
    with pytest.warns(RuntimeWarning) as caught:
        await use()
    (warning,) = caught
    assert "plugin 'broken' from acme-goscope 6.5 is skipped" in str(warning.message)
    assert reason in str(warning.message)
    assert len(sys.modules["acme_goscope_counts"].events) == 1


@pytest.mark.asyncio
async def test_where_warnings_are_errors_the_scope_stays_closed(site: Site) -> None:
    install_observers(site, broken=RAISES)
    gs = Scope(backend="memory")
    with pytest.raises(RuntimeWarning):
        await gs.open()
    assert not gs.is_open


@pytest.mark.asyncio
async def test_an_observer_plugin_that_raises_breaks_nothing_and_is_logged_once(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    install_observers(
        site,
        raises=OBSERVER.replace("events.append(event)", "raise RuntimeError('observer')"),
        counts=OBSERVER,
    )
    with caplog.at_level(logging.ERROR, "goscope"):
        await use()
        async with Scope(backend="memory") as gs:
            for _ in range(3):
                await gs.cache.get("key")
    assert len(sys.modules["acme_goscope_counts"].events) == 4
    assert len(caplog.records) == 2, "once for each scope"


@pytest.mark.parametrize(
    ("selection", "imported"),
    [
        ("none", []),
        ("", []),
        ("one", ["acme_goscope_one"]),
        (" two , one ", ["acme_goscope_one", "acme_goscope_two"]),
    ],
)
@pytest.mark.asyncio
async def test_the_environment_limits_the_observers(
    site: Site, monkeypatch: pytest.MonkeyPatch, selection: str, imported: list[str]
) -> None:
    install_observers(site, one=OBSERVER, two=OBSERVER, three=RAISES)
    monkeypatch.setenv("GOSCOPE_PLUGINS", selection)
    await use()
    assert site.imported() == imported


@pytest.mark.asyncio
async def test_a_selected_observer_that_is_not_installed_is_warned_of(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_observers(site, one=OBSERVER)
    monkeypatch.setenv("GOSCOPE_PLUGINS", "one,tow")
    with pytest.warns(RuntimeWarning, match="GOSCOPE_PLUGINS names the plugin 'tow'"):
        await use()
    assert site.imported() == ["acme_goscope_one"]


@pytest.mark.asyncio
async def test_the_environment_does_not_limit_the_backends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_backends(site, acme=BACKEND.format(name="acme"))
    monkeypatch.setenv("GOSCOPE_PLUGINS", "none")
    await use("acme")
