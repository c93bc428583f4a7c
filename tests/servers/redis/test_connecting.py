"""Connecting: what is refused, in which words, and within which time."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time
from pathlib import Path

import pytest

import goscope
from goscope.errors import BackendBusy, BackendUnavailable, ConfigurationError, InvalidOption
from goscope_redis import RedisAdapter, RedisOptions
from goscope_redis._server.facts import Facts, check

from ..proxy import Proxy
from .servers import RedisServer, free_port, running_server

pytestmark = pytest.mark.asyncio

SECRET = "s3cret/word"


async def fails(adapter: RedisAdapter, error: type[Exception], text: str) -> Exception:
    """Connecting raises the error, whose message contains the text; nothing stays open."""
    with pytest.raises(error, match=text) as caught:
        await adapter.connect()
    assert not adapter.is_connected
    assert SECRET not in f"{caught.value!r} {caught.value} {adapter!r}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    return caught.value


# --- the network ------------------------------------------------------------------------------


async def test_a_refused_connection_is_reported_at_once() -> None:
    started = time.monotonic()
    await fails(RedisAdapter(port=free_port()), BackendUnavailable, "cannot be reached")
    assert time.monotonic() - started < 4, "redis-py's retries take 4.5 s"


async def test_an_unknown_host_is_reported() -> None:
    await fails(RedisAdapter("no-such-host.invalid"), BackendUnavailable, "cannot be reached")


async def test_a_host_that_does_not_answer_is_reported_after_the_connect_timeout(
    server: RedisServer,
) -> None:
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        proxy.stop()
        adapter = RedisAdapter(port=proxy.port, connect_timeout="100ms")
        async with asyncio.timeout(10):
            await fails(adapter, BackendUnavailable, r"did not answer within 0\.1 s")


async def test_a_failed_attempt_does_not_prevent_the_next_one(server: RedisServer) -> None:
    await server.kill()
    adapter = server.adapter()
    await fails(adapter, BackendUnavailable, "cannot be reached")
    await server.start()
    async with adapter:
        await adapter.cache.set("key", 1)


# --- the login --------------------------------------------------------------------------------


async def test_a_wrong_password_is_a_configuration_error(tmp_path: Path) -> None:
    async with running_server(tmp_path / "server", "--requirepass", SECRET) as server:
        await fails(server.adapter(password="wrong"), ConfigurationError, "login was refused")
        await fails(server.adapter(), ConfigurationError, "login was refused")
        async with server.adapter(password=SECRET) as adapter:
            await adapter.cache.set("key", 1)


async def test_a_user_without_permission_is_told_what_to_grant(server: RedisServer) -> None:
    await server.command("ACL", "SETUSER", "weak", "on", f">{SECRET}", "~*", "+ping", "+info")
    await fails(
        server.adapter(username="weak", password=SECRET),
        ConfigurationError,
        "Grant it the commands",
    )


async def test_the_documented_permissions_suffice(server: RedisServer) -> None:
    """Those of docs/backends/redis.md."""
    rule = (
        "~{app}* &{app}* +@read +@write +@scripting +@pubsub +@connection +info +time +wait "
        "+cluster|slots -@dangerous +info +client|list"
    )
    await server.command("ACL", "SETUSER", "app", "on", f">{SECRET}", *rule.split())
    adapter = server.adapter(username="app", password=SECRET, hash_tag="app")
    async with goscope.Scope(persistence=adapter) as gs:
        async with gs.lock("key"):
            await gs.cache.set("key", 1, ttl="1h", tags=["tag"])
        assert await gs.cache.keys() == ["key"]
        assert await gs.cache.delete_by_tag("tag") == 1
        assert await adapter.lock.acquire("held")
        assert not await adapter.lock.wait_released("held", "50ms")
        assert (await gs.inspect.totals()).leases.count == 1
        async with server.adapter(username="app", password=SECRET, hash_tag="app"):
            assert (await gs.inspect.totals()).processes.count == 2


async def test_an_unknown_database_is_a_configuration_error(server: RedisServer) -> None:
    await fails(server.adapter(db=99), ConfigurationError, "no database of this number")


async def test_too_many_clients_is_busy(server: RedisServer) -> None:
    await server.command("CONFIG", "SET", "maxclients", 1)
    async with server.client(single_connection_client=True) as client:
        await client.ping()
        await fails(server.adapter(), BackendBusy, "too many clients")


# --- the server -------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
async def test_a_server_that_evicts_keys_is_refused(server: RedisServer, policy: str) -> None:
    await server.command("CONFIG", "SET", "maxmemory", "100mb")
    await server.command("CONFIG", "SET", "maxmemory-policy", policy)
    await fails(server.adapter(), ConfigurationError, f"maxmemory-policy {policy}")


async def test_eviction_can_be_accepted(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.command("CONFIG", "SET", "maxmemory", "100mb")
    await server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    with caplog.at_level(logging.WARNING, "goscope_redis"):
        async with server.adapter(eviction="accept") as adapter:
            await adapter.cache.set("key", 1)
    assert "maxmemory-policy allkeys-lru" in caplog.text


async def test_a_server_with_a_limit_that_evicts_nothing_is_accepted(server: RedisServer) -> None:
    await server.command("CONFIG", "SET", "maxmemory", "100mb")
    async with server.adapter() as adapter:
        await adapter.cache.set("key", 1)


async def test_an_old_server_is_refused() -> None:
    facts = Facts.parse(b"redis_version:6.2.14\r\nrole:master\r\n")
    with pytest.raises(ConfigurationError, match=r"needs Redis 7\.0"):
        check(facts, "the server", hash_tag="", db=0, eviction="refuse")


async def test_a_replica_is_refused(server: RedisServer, tmp_path: Path) -> None:
    options = ("--replicaof", "127.0.0.1", str(server.port))
    async with running_server(tmp_path / "replica", *options) as replica:
        await fails(replica.adapter(), BackendUnavailable, "is a replica")


# --- options and URLs -------------------------------------------------------------------------


async def test_a_url_opens_the_store(server: RedisServer) -> None:
    for scheme in ("redis", "valkey"):
        url = f"{scheme}://127.0.0.1:{server.port}/3?key_prefix=shop:"
        async with goscope.Scope(url, requires={goscope.Capability.DISTRIBUTED}) as gs:
            await gs.cache.set(scheme, 1, ttl="1h")
    async with server.client(db=3) as client:
        assert sorted(await client.keys("*cache:*")) == [b"shop:cache:redis", b"shop:cache:valkey"]


async def test_a_login_in_a_url_is_decoded(tmp_path: Path) -> None:
    async with running_server(tmp_path / "server", "--requirepass", SECRET) as server:
        url = f"redis://default:s3cret%2Fword@127.0.0.1:{server.port}"
        async with goscope.Scope(url) as gs:
            await gs.cache.set("key", 1, ttl="1h")


@pytest.mark.parametrize("path", ["/app", "/1/2", "/-1"])
async def test_a_path_that_is_no_database_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="not the number of a database"):
        await goscope.Scope(f"redis://127.0.0.1{path}").open()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("hash_tag", "a b"),
        ("hash_tag", "{a}"),
        ("hash_tag", ""),
        ("wait_replicas", -1),
        ("eviction", "perhaps"),
    ],
)
async def test_an_invalid_option_is_named(option: str, value: object) -> None:
    options = {option: value}
    with pytest.raises(InvalidOption, match=option):
        RedisAdapter(**options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # on purpose


async def test_waiting_for_replicas_must_end_before_the_call_does() -> None:
    with pytest.raises(InvalidOption, match="wait_timeout"):
        RedisAdapter(wait_replicas=1, wait_timeout="5s", command_timeout="5s")


@pytest.mark.parametrize("prefix", ["checkpoint:", "idempotency:"])
async def test_prefixes_that_would_collide_with_keys_are_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="reserved"):
        RedisAdapter(key_prefix=prefix)


async def test_a_password_is_not_shown() -> None:
    assert SECRET not in repr(RedisOptions(password=SECRET))
    assert SECRET not in repr(RedisAdapter(password=SECRET))
    assert SECRET not in repr(vars(RedisAdapter(password=SECRET)))
