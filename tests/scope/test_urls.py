"""What a scope opens: a URL; mistakes in it, and secrets that are not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from goscope import ConfigurationError, Scope, UnknownBackend

from .backends import ServerOptions, error_of, options_of, write_file

pytestmark = pytest.mark.usefixtures("noting_backends")


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
        ("mongodb://db", "no backend named 'mongodb' is installed"),
        ("server://[db", "is not a valid URL"),
        ("server://db:port", "has an invalid port"),
    ],
)
async def test_an_invalid_url_is_explained(url: str, message: str) -> None:
    assert message in await error_of(Scope(url))


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
        write_file("goscope.toml", f'url = "{url}"')
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
