"""Backends of installed distributions: found, imported, refused, reported."""

from __future__ import annotations

from importlib import metadata

import pytest

from goscope import BackendLoadError, Scope, UnknownBackend
from goscope.memory import MemoryAdapter

from .sites import BACKENDS, RAISES, SCHEMES, Site

pytestmark = pytest.mark.asyncio

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


async def open_backend(name: str) -> None:
    async with Scope(backend=name):
        pass


async def installed_backends() -> tuple[str, ...]:
    """The names that the error for an unknown backend lists."""
    with pytest.raises(UnknownBackend) as caught:
        await open_backend("nosuch")
    return caught.value.installed


async def test_the_memory_backend_is_an_ordinary_plugin() -> None:
    (point,) = {
        (point.name, point.value)
        for point in metadata.entry_points(group=BACKENDS)
        if point.name == "memory"
    }
    assert point == ("memory", "goscope.memory")
    async with Scope(backend="memory") as gs:
        assert repr(gs) == "<goscope.Scope open on memory>"


async def test_an_installed_backend_is_found_by_name_and_by_url(site: Site) -> None:
    acme = BACKEND.format(name="acme")
    site.install_backends(acme=acme, schemes={"acme+other": "acme"})
    for gs in (Scope(backend="acme"), Scope("acme://"), Scope("acme+other://")):
        async with gs:
            assert isinstance(gs.persistence, MemoryAdapter)
            assert repr(gs) == "<goscope.Scope open on acme>"


async def test_only_the_chosen_backend_is_imported(site: Site) -> None:
    site.install_backends(one=BACKEND.format(name="one"), two=BACKEND.format(name="two"))
    assert {"one", "two", "memory"} <= set(await installed_backends())
    assert site.imported() == []
    async with Scope(backend="two"):
        assert site.imported() == ["acme_goscope_two"]
    async with Scope("two://"):
        assert site.imported() == ["acme_goscope_two"]


async def test_a_scheme_imports_only_its_backend(site: Site) -> None:
    site.install_backends(
        one=BACKEND.format(name="one"),
        two=BACKEND.format(name="two"),
        schemes={"one+tls": "one", "two+tls": "two"},
    )
    async with Scope("two+tls://") as gs:
        assert repr(gs) == "<goscope.Scope open on two>"
    assert site.imported() == ["acme_goscope_two"]


@pytest.mark.parametrize("scheme", ["three+tls", "one+other", "two+"])
async def test_an_unknown_scheme_imports_no_backend(site: Site, scheme: str) -> None:
    site.install_backends(
        one=BACKEND.format(name="one"),
        two=BACKEND.format(name="two"),
        schemes={"one+tls": "one", "two+tls": "two"},
    )
    with pytest.raises(UnknownBackend) as caught:
        await Scope(f"{scheme}://").open()
    assert caught.value.name == scheme
    assert site.imported() == []


async def test_a_scheme_does_not_replace_the_backend_of_that_name(site: Site) -> None:
    """A distribution cannot redirect the URLs of another one's backend."""
    site.install_backends("acme-one", one=BACKEND.format(name="one"))
    site.install_backends("acme-two", two=BACKEND.format(name="two"), schemes={"one": "two"})
    async with Scope("one://") as gs:
        assert repr(gs) == "<goscope.Scope open on one>"
    assert site.imported() == ["acme_one_one"]


async def test_a_scheme_of_no_installed_backend_is_unknown(site: Site) -> None:
    site.add_distribution("acme-goscope", {SCHEMES: {"acme+tls": "acme_goscope_acme"}})
    site.add_module("acme_goscope_acme", BACKEND.format(name="acme"))
    with pytest.raises(UnknownBackend):
        await Scope("acme+tls://").open()
    assert site.imported() == []


async def test_a_broken_backend_affects_no_other_until_it_is_chosen(site: Site) -> None:
    two = BACKEND.format(name="two")
    site.install_backends(broken=RAISES, two=two, schemes={"two+other": "two", "odd": "broken"})
    await open_backend("two")
    async with Scope("two+other://"):
        pass
    with pytest.raises(BackendLoadError, match="backend 'broken'"):
        await Scope("odd://").open()
    with pytest.raises(BackendLoadError) as caught:
        await open_backend("broken")
    error = caught.value
    assert (error.name, error.distribution) == ("broken", "acme-goscope 6.5")
    assert "broken" in str(error)
    assert "Reinstall or upgrade acme-goscope" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


BROKEN = {
    "an import that fails": ("import acme_missing_driver", "acme_missing_driver"),
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
            raise RuntimeError("broken")
        """,
        "broken",
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
    "an unknown parameter": (
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
async def test_a_broken_plugin_is_a_backend_load_error(site: Site, text: str, reason: str) -> None:
    site.install_backends(acme=text)
    with pytest.raises(BackendLoadError, match=r"backend 'acme' from acme-goscope 6\.5") as caught:
        await open_backend("acme")
    assert reason in str(caught.value)


async def test_a_broken_backend_loads_once_it_is_repaired(site: Site) -> None:
    site.install_backends(acme=RAISES)
    with pytest.raises(BackendLoadError):
        await open_backend("acme")
    (site.folder / "acme_goscope_acme.py").write_text(BACKEND.format(name="acme"))
    await open_backend("acme")


async def test_an_unknown_backend_imports_none_and_names_the_nearest(site: Site) -> None:
    site.install_backends(acme=RAISES)
    with pytest.raises(UnknownBackend, match=r"Did you mean 'acme'\?") as caught:
        await open_backend("acne")
    assert "acme" in caught.value.installed
    assert site.imported() == []


async def test_two_distributions_with_one_backend_are_refused(site: Site) -> None:
    for distribution in ("acme-one", "acme-two"):
        site.install_backends(distribution, acme=BACKEND.format(name="acme"))
    with pytest.raises(BackendLoadError) as caught:
        await open_backend("acme")
    assert "acme-one 6.5" in str(caught.value)
    assert "acme-two 6.5" in str(caught.value)
    assert site.imported() == []


async def test_the_same_entry_point_listed_twice_is_one(site: Site) -> None:
    """An editable workspace lists it beside an installed member of the workspace."""
    site.add_module("acme_shared", BACKEND.format(name="acme"))
    for distribution in ("acme-one", "acme-two"):
        site.add_distribution(distribution, {BACKENDS: {"acme": "acme_shared"}})
    assert (await installed_backends()).count("acme") == 1
    async with Scope(backend="acme") as gs:
        assert isinstance(gs.persistence, MemoryAdapter)


async def test_the_environment_does_not_limit_the_backends(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.install_backends(acme=BACKEND.format(name="acme"))
    monkeypatch.setenv("GOSCOPE_PLUGINS", "none")
    await open_backend("acme")
