"""What a scope opens: keywords, the environment or a file; and how it reports mistakes."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from goscope import ConfigurationError, InvalidOption, Scope, UnknownBackend
from goscope.memory import MemoryAdapter
from goscope_sqlite import SQLiteAdapter

from .backends import PlainOptions, ServerOptions, error_of, opened_with, options_of, write_file

pytestmark = pytest.mark.usefixtures("noting_backends")


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
        await Scope(backend="mongodb").open()
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


@pytest.mark.asyncio
async def test_without_settings_the_error_lists_the_ways_to_set_them() -> None:
    message = await error_of(Scope())
    for way in ("Scope('sqlite:///app.db')", "GOSCOPE_URL", "goscope.toml", "pyproject.toml"):
        assert way in message


def write_files(*names: str) -> None:
    texts = {
        "goscope.toml": 'backend = "server"\nhost = "goscope.toml"\n',
        "pyproject.toml": '[tool.goscope]\nbackend = "server"\nhost = "pyproject.toml"\n',
    }
    for name in names:
        write_file(name, texts[name])


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
    write_file("pyproject.toml", '[project]\nname = "shop"\n')
    assert "no backend was chosen" in await error_of(Scope())


@pytest.mark.asyncio
async def test_a_file_may_hold_a_url() -> None:
    write_file("goscope.toml", 'url = "server://db?port=7"\ntls = true\n')
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
    write_file("goscope.toml", "not TOML")
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
    write_file("goscope.toml", text)
    assert message in await error_of(Scope())


@pytest.mark.asyncio
async def test_a_goscope_setting_that_is_not_a_table_is_refused() -> None:
    write_file("pyproject.toml", "[tool]\ngoscope = 7\n")
    assert "tool.goscope in pyproject.toml must be tables" in await error_of(Scope())


@pytest.mark.asyncio
async def test_an_error_in_the_variable_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOSCOPE_URL", "server://db?hots=db")
    assert "in GOSCOPE_URL 'server://db'" in await error_of(Scope())


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("pyproject.toml", b"tool = 3", "must be tables"),
        ("pyproject.toml", b"[tool]\ngoscope = 3", "must be tables"),
        ("goscope.toml", b"url = '\xff'", "cannot be read"),
        ("goscope.toml", b"url = " + b"[" * 100_000, "cannot be read"),
        ("goscope.toml", b"backend = 'plain'\nsize = " + b"[" * 300 + b"]" * 300, "option 'size'"),
        ("goscope.toml", b"url = 3", "must be a string"),
    ],
)
async def test_a_file_that_is_not_what_it_should_be_is_a_configuration_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    message = await error_of(Scope())
    assert reason in message
    assert name in message


@pytest.mark.asyncio
async def test_without_a_working_directory_no_backend_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert "no backend was chosen" in await error_of(Scope())
