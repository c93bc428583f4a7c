"""URLs, options and versions, without a server."""

from __future__ import annotations

from typing import Any

import pytest

import goscope
from goscope import InvalidOption
from goscope._settings import resolve
from goscope.errors import ConfigurationError
from goscope_mysql import MySQLAdapter, MySQLOptions
from goscope_mysql._engine.connection import check_version


def options_of(url: str) -> MySQLOptions:
    options = resolve(url, None, {}).options
    assert isinstance(options, MySQLOptions)
    return options


@pytest.mark.parametrize("scheme", ["mysql", "mariadb"])
def test_a_url_has_the_parts_of_the_address(scheme: str) -> None:
    options = options_of(f"{scheme}://me:p%40ss%2Fword@db.internal:3307/shop?timeout=2s&tls=verify")
    assert (options.host, options.port, options.database) == ("db.internal", 3307, "shop")
    assert (options.user, options.password) == ("me", "p@ss/word")
    assert (options.timeout, options.tls, options.max_connections) == ("2s", "verify", 10)


def test_a_url_needs_one_database() -> None:
    for url in ("mysql://me@host", "mysql://me@host/", "mysql://me@host/a/b"):
        with pytest.raises(ConfigurationError, match="must name one database"):
            options_of(url)


def test_a_url_needs_a_user() -> None:
    with pytest.raises(InvalidOption, match="user"):
        options_of("mysql://host/shop")


def test_no_text_shows_the_password() -> None:
    options = options_of("mysql://me:secret@host/shop")
    gs = goscope.Scope("mysql://me:secret@host/shop")
    adapter = MySQLAdapter("host", user="me", password="secret", database="shop")
    shown = f"{options!r} {options} {adapter!r} {adapter._settings!r} {gs!r}"
    assert "secret" not in shown
    assert "me@host:3306/shop" in repr(adapter)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tls", "yes"),
        ("max_connections", 0),
        ("table_prefix", "a-b"),
        ("table_prefix", "a`b"),
        ("table_prefix", "x" * 41),
        ("key_prefix", "x" * 128 + ":"),
        ("database", ""),
    ],
)
def test_an_invalid_option_is_named(option: str, value: object) -> None:
    options: dict[str, Any] = {"user": "me", "database": "shop", option: value}
    with pytest.raises(InvalidOption, match=option):
        MySQLAdapter("host", **options)


@pytest.mark.parametrize(
    "version", ["8.0.11", "9.7.4-2", "10.11.6-MariaDB", "5.5.5-10.11.19-MariaDB-0+deb12u1"]
)
def test_a_supported_version_is_accepted(version: str) -> None:
    check_version(version, "MariaDB" in version, "here")


@pytest.mark.parametrize("version", ["5.7.44-log", "5.5.5-10.6.18-MariaDB"])
def test_an_old_version_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match="is too old"):
        check_version(version, "MariaDB" in version, "here")
