"""What a scope opens: a URL, keywords, the environment or a file; and how it reports mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult

import msgspec
import pytest

from goscope import ConfigurationError, InvalidOption, Scope, UnknownBackend
from goscope.backend import Backend
from goscope.hookspecs import hookimpl
from goscope.memory import MemoryAdapter
from goscope_sqlite import SQLiteAdapter

from .sites import BACKENDS, SCHEMES, Site


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    host: str = "localhost"
    port: int = 1
    user: str = ""
    password: str = ""
    tls: bool = False
    timeout: str = "5s"


@dataclass(frozen=True)
class PlainOptions:
    size: int = 1


opened_with: list[Any] = []
"""The options that the scopes of a test opened their backends with."""


def server_options(url: SplitResult) -> Mapping[str, Any]:
    parts = {"host": url.hostname, "port": url.port, "user": url.username}
    return {name: part for name, part in parts.items() if part is not None}


def _open(options: Any) -> MemoryAdapter:
    opened_with.append(options)
    return MemoryAdapter()


SERVER = Backend(
    name="server",
    summary="its URL has every part",
    options=ServerOptions,
    open=_open,
    url_options=server_options,
)
PLAIN = Backend(
    name="plain", summary="its options are a dataclass", options=PlainOptions, open=_open
)


class Plugin:
    @hookimpl
    def goscope_backends(self) -> Sequence[Backend]:
        return [SERVER, PLAIN]


plugin = Plugin()


@pytest.fixture(autouse=True)
def _backends(site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two more backends, and a working directory without settings."""
    value = f"{__name__}:plugin"
    points = {BACKENDS: {"server": value, "plain": value}, SCHEMES: {"server+tls": value}}
    site.add_distribution("acme-goscope", points)
    monkeypatch.chdir(tmp_path)
    opened_with.clear()


async def options_of(gs: Scope) -> Any:
    async with gs:
        return opened_with[-1]


async def error_of(gs: Scope) -> str:
    """The message of the error that opening the scope raises."""
    with pytest.raises(ConfigurationError) as caught:
        await gs.open()
    assert not gs.is_open
    return str(caught.value)


# --- keywords --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_keywords_are_the_options_of_the_backend() -> None:
    assert await options_of(Scope(backend="server", host="db", port=7)) == ServerOptions(
        host="db", port=7
    )
    assert await options_of(Scope(backend="plain", size=3)) == PlainOptions(3)


@pytest.mark.asyncio
async def test_keywords_may_be_paths_and_timedeltas(tmp_path: Path) -> None:
    gs = Scope(backend="sqlite", path=tmp_path / "app.db", default_lock_ttl=timedelta(seconds=3))
    async with gs:
        assert isinstance(gs.persistence, SQLiteAdapter)
        assert gs.persistence.default_lock_ttl_ms == 3000
    assert (tmp_path / "app.db").exists()


@pytest.mark.asyncio
async def test_an_unknown_option_names_the_nearest() -> None:
    message = await error_of(Scope(backend="server", hots="db"))
    assert "option 'hots' in the keywords of Scope" in message
    assert "did you mean 'host'?" in message


@pytest.mark.asyncio
async def test_an_unknown_option_without_a_near_one_lists_them_all() -> None:
    message = await error_of(Scope(backend="plain", colour="red"))
    assert "option 'colour'" in message
    assert "it has size" in message


@pytest.mark.asyncio
async def test_a_mistyped_option_is_named_with_its_source() -> None:
    with pytest.raises(InvalidOption) as caught:
        await Scope(backend="server", port="7").open()
    assert caught.value.option == "port"
    assert caught.value.source == "the keywords of Scope"
    assert "Expected `int`, got `str`" in str(caught.value)
    with pytest.raises(InvalidOption) as caught:
        await Scope(backend="plain", size="big").open()
    assert caught.value.option == "size"


@pytest.mark.asyncio
async def test_an_invalid_value_is_named_with_its_source() -> None:
    message = await error_of(Scope("memory://?default_lock_ttl=soon"))
    assert "the URL 'memory://': default_lock_ttl 'soon' is not a valid duration" in message


@pytest.mark.asyncio
async def test_a_missing_option_is_named() -> None:
    with pytest.raises(InvalidOption) as caught:
        await Scope(backend="sqlite").open()
    assert caught.value.option == "path"


@pytest.mark.asyncio
async def test_an_unknown_backend_lists_the_installed_ones_and_proposes_no_distribution() -> None:
    with pytest.raises(UnknownBackend) as caught:
        await Scope(backend="postgres").open()
    installed = caught.value.installed
    assert {"memory", "plain", "server", "sqlite"} <= set(installed)
    assert f"installed: {', '.join(installed)}" in str(caught.value)
    assert "pip" not in str(caught.value)


@pytest.mark.asyncio
async def test_options_without_a_backend_are_refused() -> None:
    assert "options without a backend: path" in await error_of(Scope(path="app.db"))


@pytest.mark.asyncio
async def test_a_url_and_a_backend_exclude_each_other() -> None:
    message = await error_of(Scope("sqlite:///app.db", backend="sqlite"))
    assert "a URL or a backend, not both" in message


@pytest.mark.parametrize(
    "settings", [{"backend": "memory"}, {"url": "memory://"}, {"key_prefix": "shop:"}], ids=str
)
def test_an_adapter_and_settings_exclude_each_other(settings: dict[str, Any]) -> None:
    url = (settings.pop("url"),) if "url" in settings else ()
    with pytest.raises(ConfigurationError, match="not both"):
        Scope(*url, persistence=MemoryAdapter(), **settings)


# --- URLs ------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_url_names_backend_and_options() -> None:
    gs = Scope("server://ada:secret@db:7?tls=true&timeout=9s")
    assert await options_of(gs) == ServerOptions(
        host="db", port=7, user="ada", tls=True, timeout="9s"
    )


@pytest.mark.asyncio
async def test_a_backend_may_have_other_schemes_than_its_name() -> None:
    assert await options_of(Scope("server+tls://db")) == ServerOptions(host="db")


@pytest.mark.asyncio
async def test_a_scheme_that_no_backend_has_is_an_unknown_backend() -> None:
    with pytest.raises(UnknownBackend, match=r"'server\+ssl' .*Did you mean 'server'\?"):
        await Scope("server+ssl://db").open()


@pytest.mark.asyncio
async def test_keywords_complete_a_url() -> None:
    gs = Scope("server://db", password="secret")
    assert await options_of(gs) == ServerOptions(host="db", password="secret")


@pytest.mark.asyncio
async def test_a_file_is_relative_with_three_slashes_and_absolute_with_four(
    tmp_path: Path,
) -> None:
    async with Scope("sqlite:///one.db?locks=shared"), Scope(f"sqlite:///{tmp_path}/two.db"):
        pass
    assert (tmp_path / "one.db").exists()
    assert (tmp_path / "two.db").exists()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("app.db", "'app.db' names no backend: write it as sqlite:///app.db"),
        ("sqlite:app.db", "names no backend"),
        ("memory://host", "takes neither host nor path, write memory://"),
        ("memory:///path", "takes neither host nor path"),
        ("sqlite://app.db", "three slashes for a relative path"),
        ("sqlite:///", "names no file"),
        ("server://db?prot=7", "did you mean 'port'?"),
        ("server://db?tls=perhaps", "option 'tls' in the URL 'server://db'"),
        ("server://db?host=other", "option 'host' in the URL 'server://db': is given twice"),
        ("server://db?tls=1&tls=0", "is given twice"),
        ("redis://db", "no backend named 'redis' is installed"),
        ("server://[db", "is not a valid URL"),
        ("server://db:port", "has an invalid port"),
    ],
)
async def test_an_invalid_url_is_explained(url: str, message: str) -> None:
    assert message in await error_of(Scope(url))


# --- environment and files -------------------------------------------------------------------


@pytest.mark.asyncio
async def test_without_settings_the_error_lists_the_ways_to_set_them() -> None:
    message = await error_of(Scope())
    for way in ("Scope('sqlite:///app.db')", "GOSCOPE_URL", "goscope.toml", "pyproject.toml"):
        assert way in message


def write(name: str, text: str) -> None:
    """A file in the working directory."""
    Path(name).write_text(text)


def write_files(*names: str) -> None:
    texts = {
        "goscope.toml": 'backend = "server"\nhost = "goscope.toml"\n',
        "pyproject.toml": '[tool.goscope]\nbackend = "server"\nhost = "pyproject.toml"\n',
    }
    for name in names:
        write(name, texts[name])


@pytest.mark.asyncio
async def test_the_environment_overrides_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    write_files("goscope.toml", "pyproject.toml")
    monkeypatch.setenv("GOSCOPE_URL", "server://environment")
    assert (await options_of(Scope())).host == "environment"


@pytest.mark.asyncio
async def test_goscope_toml_overrides_pyproject_toml() -> None:
    write_files("pyproject.toml")
    assert (await options_of(Scope())).host == "pyproject.toml"
    write_files("goscope.toml")
    assert (await options_of(Scope())).host == "goscope.toml"


@pytest.mark.asyncio
async def test_a_pyproject_without_a_goscope_table_is_ignored() -> None:
    write("pyproject.toml", '[project]\nname = "shop"\n')
    assert "no backend was chosen" in await error_of(Scope())


@pytest.mark.asyncio
async def test_a_file_may_hold_a_url() -> None:
    write("goscope.toml", 'url = "server://db?port=7"\ntls = true\n')
    assert await options_of(Scope()) == ServerOptions(host="db", port=7, tls=True)


@pytest.mark.asyncio
async def test_environment_and_files_are_read_at_open() -> None:
    gs = Scope()
    write_files("goscope.toml")
    assert (await options_of(gs)).host == "goscope.toml"


@pytest.mark.asyncio
@pytest.mark.parametrize("chosen", ["url", "backend", "persistence"])
async def test_settings_in_code_ignore_the_environment_and_the_files(
    monkeypatch: pytest.MonkeyPatch, chosen: str
) -> None:
    monkeypatch.setenv("GOSCOPE_URL", "server://environment")
    write("goscope.toml", "not TOML")
    scopes = {
        "url": Scope("memory://"),
        "backend": Scope(backend="memory"),
        "persistence": Scope(persistence=MemoryAdapter()),
    }
    async with scopes[chosen]:
        assert opened_with == []


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not TOML", "goscope.toml cannot be read"),
        ('host = "db"\n', "goscope.toml must set either url or backend"),
        ('url = "memory://"\nbackend = "memory"\n', "must set either url or backend"),
        ("backend = 7\n", "option 'backend' in goscope.toml: must be a string, not int"),
        ('backend = "server"\nhots = "db"\n', "option 'hots' in goscope.toml"),
        ('backend = "server"\nport = "7"\n', "option 'port' in goscope.toml"),
    ],
)
async def test_an_error_in_a_file_names_the_file(text: str, message: str) -> None:
    write("goscope.toml", text)
    assert message in await error_of(Scope())


@pytest.mark.asyncio
async def test_a_goscope_setting_that_is_not_a_table_is_refused() -> None:
    write("pyproject.toml", "[tool]\ngoscope = 7\n")
    assert "tool.goscope in pyproject.toml must be a table" in await error_of(Scope())


@pytest.mark.asyncio
async def test_an_error_in_the_variable_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOSCOPE_URL", "server://db?hots=db")
    assert "in GOSCOPE_URL 'server://db'" in await error_of(Scope())


# --- secrets ---------------------------------------------------------------------------------

SECRET_URLS = [
    "server://ada:s3cret@db?nonsense=1",
    "server://ada:s3cret@db:port",
    "server://ada:x/s3cret@db?nonsense=1",
    "server://ada:s3cret/x@db",
    "server://ada:x?s3cret@db",
    "server://ada:x#s3cret@db",
    "server://ada:x@s3cret@db?nonsense=1",
    "server://ada:s3cret\N{CARE OF}@db",
    "server://[ada:s3cret@db",
    "server://db?nonsense=s3cret",
    "server://db?port=s3cret",
    "ada:s3cret@db",
    "memory://ada:s3cret@db",
    "nosuch://ada:s3cret@db",
]


@pytest.mark.asyncio
@pytest.mark.parametrize("url", SECRET_URLS)
@pytest.mark.parametrize("source", ["code", "environment", "file"])
async def test_passwords_are_never_shown(
    url: str, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the error, nor its causes, nor a repr contains one."""
    gs = Scope(url) if source == "code" else Scope()
    if source == "environment":
        monkeypatch.setenv("GOSCOPE_URL", url)
    if source == "file":
        write("goscope.toml", f'url = "{url}"')
    assert "s3cret" not in repr(gs)
    with pytest.raises(ConfigurationError) as caught:
        await gs.open()
    error: BaseException | None = caught.value
    while error is not None:
        assert "s3cret" not in str(error)
        assert "s3cret" not in repr(error)
        error = error.__cause__ if error.__suppress_context__ else error.__context__


@pytest.mark.asyncio
async def test_the_rest_of_a_url_is_shown() -> None:
    message = await error_of(Scope("server://ada:s3cret@db:7/path?nonsense=1"))
    assert "'server://ada:***@db:7/path'" in message


@pytest.mark.asyncio
async def test_the_repr_of_an_open_scope_names_only_its_backend() -> None:
    gs = Scope("server://ada:s3cret@db")
    async with gs:
        assert repr(gs) == "<goscope.Scope open on server>"
    assert repr(gs) == "<goscope.Scope closed>"
