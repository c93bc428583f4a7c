"""Observers of installed distributions: which scopes they observe, and plugins that fail."""

from __future__ import annotations

import logging
import sys

import pytest

from goscope import Scope

from .sites import RAISES, Site

pytestmark = pytest.mark.asyncio

OBSERVER = """
from goscope.hookspecs import hookimpl

events = []

@hookimpl
def goscope_event(event):
    events.append(event)
"""


async def emit_one_event() -> None:
    async with Scope(backend="memory") as gs:
        await gs.cache.get("key")


async def test_an_observer_plugin_gets_the_events_of_every_scope(site: Site) -> None:
    site.install_observers(counts=OBSERVER)
    await emit_one_event()
    await emit_one_event()
    events = sys.modules["acme_goscope_counts"].events
    assert [event.key for event in events] == ["key", "key"]


async def test_each_of_several_observers_gets_each_event_once(site: Site) -> None:
    site.install_observers(one=OBSERVER, two=OBSERVER, three=OBSERVER)
    await emit_one_event()
    counts = [len(sys.modules[module].events) for module in site.modules]
    assert counts == [1, 1, 1]


async def test_each_of_two_observers_with_one_name_is_called(site: Site) -> None:
    site.install_observers("acme-goscope", metrics=OBSERVER)
    site.install_observers("other-goscope", metrics=OBSERVER)
    await emit_one_event()
    counts = [len(sys.modules[module].events) for module in site.modules]
    assert counts == [1, 1]


async def test_a_broken_observer_does_not_drop_another_one_with_its_name(site: Site) -> None:
    site.install_observers("acme-goscope", metrics=OBSERVER)
    site.install_observers("other-goscope", metrics=COROUTINE)
    with pytest.warns(RuntimeWarning) as caught:
        await emit_one_event()
    (warning,) = caught
    assert "plugin 'metrics' from other-goscope 6.5 is skipped" in str(warning.message)
    assert len(sys.modules["acme_goscope_metrics"].events) == 1


async def test_observers_are_imported_when_a_scope_opens(site: Site) -> None:
    site.install_observers(counts=OBSERVER)
    gs = Scope(backend="memory")
    assert site.imported() == []
    async with gs:
        assert site.imported() == ["acme_goscope_counts"]


async def test_a_closed_scope_keeps_no_observer_plugin(site: Site) -> None:
    site.install_observers(counts=OBSERVER)
    gs = Scope(backend="memory")
    for _ in range(2):
        async with gs:
            await gs.cache.get("key")
    assert len(sys.modules["acme_goscope_counts"].events) == 2
    assert gs._observers.active is False  # private: a closed scope emits nothing to observe


async def test_a_plugin_without_an_observer_costs_nothing(site: Site) -> None:
    site.install_observers(idle="")
    async with Scope(backend="memory") as gs:
        assert gs._observers.active is False  # private: nothing public shows the work saved


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
        (RAISES, "broken"),
        (COROUTINE, "goscope_event must be a plain function"),
        (MISSPELT, "goscope_events"),
    ],
    ids=["raises", "coroutine", "misspelt"],
)
async def test_a_broken_observer_is_skipped_with_a_warning_and_the_others_are_called(
    site: Site, text: str, reason: str
) -> None:
    site.install_observers(broken=text, counts=OBSERVER)
    with pytest.warns(RuntimeWarning) as caught:
        await emit_one_event()
    (warning,) = caught
    assert "plugin 'broken' from acme-goscope 6.5 is skipped" in str(warning.message)
    assert reason in str(warning.message)
    assert len(sys.modules["acme_goscope_counts"].events) == 1


async def test_a_warning_raised_as_an_error_leaves_the_scope_closed(site: Site) -> None:
    site.install_observers(broken=RAISES)
    gs = Scope(backend="memory")
    with pytest.raises(RuntimeWarning):
        await gs.open()
    assert not gs.is_open


async def test_an_observer_plugin_that_raises_is_logged_once_and_affects_no_other(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.install_observers(
        raises=OBSERVER.replace("events.append(event)", "raise RuntimeError('observer')"),
        counts=OBSERVER,
    )
    with caplog.at_level(logging.ERROR, "goscope"):
        await emit_one_event()
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
async def test_the_environment_limits_the_observers(
    site: Site, monkeypatch: pytest.MonkeyPatch, selection: str, imported: list[str]
) -> None:
    site.install_observers(one=OBSERVER, two=OBSERVER, three=RAISES)
    monkeypatch.setenv("GOSCOPE_PLUGINS", selection)
    await emit_one_event()
    assert site.imported() == imported


async def test_a_selected_observer_that_is_not_installed_is_a_warning(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install_observers(one=OBSERVER)
    monkeypatch.setenv("GOSCOPE_PLUGINS", "one,tow")
    with pytest.warns(RuntimeWarning, match="GOSCOPE_PLUGINS names the plugin 'tow'"):
        await emit_one_event()
    assert site.imported() == ["acme_goscope_one"]
