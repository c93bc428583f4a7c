"""Faults of the server and the network: each has its error, and the next call works."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
import warnings
from collections.abc import Awaitable, Callable

import pytest

import goscope
from goscope.errors import (
    BackendBusy,
    BackendCorrupt,
    BackendFull,
    BackendUnavailable,
    ScopeNotOpen,
)
from goscope_redis import RedisAdapter

from ..proxy import Proxy
from .servers import RedisServer

pytestmark = pytest.mark.asyncio

SLOW_S = 30.0


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Return when the condition is true."""
    async with asyncio.timeout(SLOW_S):
        while not await condition():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.005)


async def lost(adapter: RedisAdapter) -> None:
    """Return when the adapter has noticed that its connection is closed."""

    async def is_lost() -> bool:
        connection = adapter._server._connection
        return connection is not None and connection.lost_reason != ""

    await until(is_lost)


async def in_flight(server: RedisServer) -> None:
    """Return when the paused server has received a command that it does not execute yet."""

    async def is_blocked() -> bool:
        clients: bytes = await server.command("CLIENT", "LIST", "TYPE", "NORMAL")
        return any(b" flags=b" in it and b" cmd=evalsha" in it for it in clients.splitlines())

    await until(is_blocked)


async def kill_clients(server: RedisServer, kind: str = "normal") -> None:
    await server.command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


# --- killed connections and servers -----------------------------------------------------------


async def test_the_outcome_of_a_write_is_unknown_when_its_connection_is_killed(
    server: RedisServer,
) -> None:
    async with server.adapter() as adapter:
        await server.command("CLIENT", "PAUSE", 60_000, "WRITE")
        writing = asyncio.create_task(adapter.cache.set("key", 1))
        await in_flight(server)
        await kill_clients(server)
        with pytest.raises(BackendUnavailable, match="outcome of the call is unknown") as caught:
            await writing
        assert caught.value.outcome_unknown
        await server.command("CLIENT", "UNPAUSE")
        await adapter.cache.set("key", 2)
        assert await adapter.cache.get("key") == 2


async def test_calls_fail_fast_while_the_server_is_down_and_work_after_it(
    server: RedisServer,
) -> None:
    async with server.adapter() as adapter:
        await adapter.cache.set("key", 1)
        lease = await adapter.lease.acquire("old")
        assert lease is not None
        await server.kill()
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(BackendUnavailable):
                await adapter.cache.set("key", 2)
        assert time.monotonic() - started < 45, "redis-py's retries take 4.5 s a call"
        await server.start()
        assert await adapter.cache.get("key") is None, "the server keeps nothing"
        await adapter.cache.set("key", 3)
        again = await adapter.lease.acquire("old")
        assert again is not None
        assert again.fencing_token is not None
        assert lease.fencing_token is not None
        assert again.fencing_token > lease.fencing_token, "a token was granted twice"
        with pytest.raises(goscope.LeaseLost):
            await adapter.cache.set("key", 4, fence=lease)


async def test_calls_in_flight_end_when_the_server_dies(server: RedisServer) -> None:
    async with server.adapter() as adapter:
        await server.command("CLIENT", "PAUSE", 60_000, "WRITE")
        writing = [asyncio.create_task(adapter.cache.set(f"key{it}", 1)) for it in range(10)]
        await in_flight(server)
        await server.kill()
        async with asyncio.timeout(SLOW_S):
            results = await asyncio.gather(*writing, return_exceptions=True)
        assert all(isinstance(it, BackendUnavailable) for it in results), results
        assert all(it.outcome_unknown for it in results if isinstance(it, BackendUnavailable))


async def test_an_idle_connection_that_was_closed_is_replaced(server: RedisServer) -> None:
    async with server.adapter() as adapter:
        for number in range(3):
            await kill_clients(server)
            await lost(adapter)
            await adapter.cache.set("key", number)
            assert await adapter.cache.increment("count") == number + 1


async def test_flushed_scripts_are_loaded_again(server: RedisServer) -> None:
    async with server.adapter() as adapter:
        assert await adapter.cache.increment("count") == 1
        await server.command("SCRIPT", "FLUSH")
        counts = await asyncio.gather(*(adapter.cache.increment("count") for _ in range(5)))
        assert sorted(counts) == [2, 3, 4, 5, 6]


# --- the network ------------------------------------------------------------------------------


async def test_a_call_on_a_half_open_connection_ends_by_its_timeout(server: RedisServer) -> None:
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        adapter = RedisAdapter(port=proxy.port, command_timeout="1s", connect_timeout="1s")
        async with adapter:
            proxy.stop()
            async with asyncio.timeout(SLOW_S):
                with pytest.raises(BackendUnavailable, match=r"no answer for 1 s"):
                    await adapter.cache.set("key", 1)
                with pytest.raises(BackendUnavailable, match="did not answer"):
                    await adapter.cache.get("key")
            proxy.cut()
            proxy.resume()
            await adapter.cache.set("key", 2)
            assert await adapter.cache.get("key") == 2


async def test_a_blocked_event_loop_is_no_late_answer(server: RedisServer) -> None:
    async with server.adapter(command_timeout="500ms") as adapter:
        for number in range(3):
            writing = asyncio.create_task(adapter.cache.set("key", number))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            time.sleep(0.7)  # noqa: ASYNC251  # what a careless program does
            await writing


async def lose_the_answer(proxy: Proxy, call: Awaitable[object]) -> asyncio.Future[object]:
    """Start the call; end its connection when the server has executed it."""
    proxy.stop_answers()
    proxy.held.clear()
    running = asyncio.ensure_future(call)
    await proxy.held.wait()
    proxy.cut()
    proxy.resume()
    return running


async def test_a_write_whose_answer_is_lost_is_applied_once(server: RedisServer) -> None:
    async with (
        Proxy.to("127.0.0.1", server.port) as proxy,
        RedisAdapter(port=proxy.port) as adapter,
    ):
        await adapter.cache.increment("count")
        await adapter.circuit_breaker.record_failure("key", 100)
        for call in (
            adapter.cache.increment("count"),
            adapter.circuit_breaker.record_failure("key", 100),
        ):
            await adapter.cache.get("count")  # opens the connection again
            with pytest.raises(BackendUnavailable, match="outcome of the call is unknown"):
                await (await lose_the_answer(proxy, call))
        assert await adapter.cache.get("count") == 2, "redis-py's retries counted 3 and more"
        state = await adapter.circuit_breaker.get_state("key")
        assert state is not None
        assert state.failure_count == 2


async def test_a_read_whose_answer_is_lost_is_repeated(server: RedisServer) -> None:
    async with (
        Proxy.to("127.0.0.1", server.port) as proxy,
        RedisAdapter(port=proxy.port) as adapter,
    ):
        await adapter.cache.set("key", 1)
        assert await (await lose_the_answer(proxy, adapter.cache.get("key"))) == 1


async def test_an_acquire_whose_answer_is_lost_keeps_its_lock(server: RedisServer) -> None:
    async with (
        Proxy.to("127.0.0.1", server.port) as proxy,
        RedisAdapter(port=proxy.port) as adapter,
    ):
        warm = await adapter.lock.acquire("warm")
        assert warm is not None
        running = await lose_the_answer(proxy, adapter.lock.acquire("key", owner="me"))
        handle = await running
        assert isinstance(handle, goscope.LockHandle), "it lost its own lock"
        assert await handle.is_valid()
        holder = await adapter.lock.holder("key")
        assert holder is not None
        assert holder.fencing_token == handle.fencing_token
        assert await adapter.lock.acquire("key", owner="me") is None


async def test_a_release_whose_answer_is_lost_is_reported_as_unknown(server: RedisServer) -> None:
    async with (
        Proxy.to("127.0.0.1", server.port) as proxy,
        RedisAdapter(port=proxy.port) as adapter,
    ):
        handle = await adapter.lock.acquire("key")
        assert handle is not None
        await (await adapter.lock.acquire("warm")).release()  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]  # it is free
        running = await lose_the_answer(proxy, handle.release())
        assert await running is None
        assert await adapter.lock.acquire("key") is not None


# --- refusals by the server -------------------------------------------------------------------


async def test_an_endless_script_of_another_client_is_busy(server: RedisServer) -> None:
    await server.command("CONFIG", "SET", "lua-time-limit", 10)
    async with server.adapter() as adapter, server.client() as client:
        endless = asyncio.create_task(client.eval("while true do end", 0))
        try:

            async def is_busy() -> bool:
                try:
                    await adapter.cache.get("key")
                except BackendBusy:
                    return True
                return False

            await until(is_busy)
            with pytest.raises(BackendBusy, match="script of another client"):
                await adapter.cache.set("key", 1)
        finally:
            await server.command("SCRIPT", "KILL")
            await asyncio.gather(endless, return_exceptions=True)
        await adapter.cache.set("key", 1)


async def times(adapter: RedisAdapter) -> tuple[object, ...]:
    """The value of the entry, and its times."""
    entry = await adapter.cache.get_entry("key")
    assert entry is not None
    return entry.value, entry.expires_at, entry.stale_until


async def test_a_full_memory_refuses_writes_whole_and_allows_releases(server: RedisServer) -> None:
    async with server.adapter() as adapter:
        await adapter.cache.set("key", "old", "1h", tags=["tag"], stale_for="1h")
        before = await times(adapter)
        handle = await adapter.lock.acquire("key")
        assert handle is not None
        await server.command("CONFIG", "SET", "maxmemory", 1)
        for write in (
            adapter.cache.set("key", "new"),
            adapter.cache.set("key", "new", "1h", tags=["other"]),
            adapter.cache.touch("key", "2h"),
            adapter.idempotency.set("key", 1),
            adapter.lock.acquire("other"),
        ):
            with pytest.raises(BackendFull, match="memory of the server is full"):
                await write
        assert await times(adapter) == before, "a refused write left something"
        assert await handle.extend("1h")
        assert await handle.release()
        assert await adapter.cache.delete_by_tag("tag") == 1
        await server.command("CONFIG", "SET", "maxmemory", 0)
        await adapter.cache.set("key", "new")


async def test_a_server_that_became_a_replica_refuses_writes(server: RedisServer) -> None:
    async with server.adapter() as adapter:
        await adapter.cache.set("key", 1)
        await server.command("REPLICAOF", "127.0.0.1", 1)
        with pytest.raises(BackendUnavailable, match="replica"):
            await adapter.cache.set("key", 2)
        await server.command("REPLICAOF", "NO", "ONE")
        await adapter.cache.set("key", 3)
        assert await adapter.cache.get("key") == 3


async def test_a_key_of_another_program_is_reported_and_kept(server: RedisServer) -> None:
    await server.command("RPUSH", "cache:key", "theirs")
    async with server.adapter() as adapter:
        with pytest.raises(BackendCorrupt, match="another program"):
            await adapter.cache.get("key")
    assert await server.command("LRANGE", "cache:key", 0, -1) == [b"theirs"]


# --- cancellation, loops and processes --------------------------------------------------------


async def test_cancelled_calls_never_mix_up_answers(server: RedisServer) -> None:
    choices = random.Random(7)
    async with server.adapter() as adapter:
        for number in range(50):
            await adapter.cache.set(f"key{number}", number)

        async def read(number: int) -> None:
            assert await adapter.cache.get(f"key{number}") == number

        for _ in range(40):
            tasks = [asyncio.create_task(read(number)) for number in range(50)]
            await asyncio.sleep(0)
            for task in choices.sample(tasks, 20):
                task.cancel()
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                assert result is None or isinstance(result, asyncio.CancelledError), result
        clients: bytes = await server.command("INFO", "clients")
        assert b"connected_clients:2\r\n" in clients, "a cancelled call left a connection"


async def test_an_adapter_is_refused_after_a_fork(server: RedisServer) -> None:
    async with server.adapter() as adapter:
        await adapter.cache.set("key", 1)
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            try:
                adapter.context.check()
            except BackendUnavailable as exc:
                os.write(writer, str(exc).encode())
            os._exit(0)
        os.waitpid(child, 0)  # noqa: ASYNC222  # it ends at once
        os.close(writer)
        assert b"before this process was forked" in os.read(reader, 1000)
        os.close(reader)
        assert await adapter.cache.get("key") == 1


async def test_an_adapter_is_refused_in_another_event_loop(server: RedisServer) -> None:
    async with server.adapter() as adapter:

        def elsewhere() -> None:
            with pytest.raises(BackendUnavailable, match="another event loop"):
                asyncio.run(adapter.cache.get("key"))

        await asyncio.to_thread(elsewhere)


# redis-py 5.2 closes a forgotten connection in its __del__, which the closed loop refuses.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_adapter_survives_its_event_loop(server: RedisServer) -> None:
    adapter = server.adapter()

    async def connect() -> None:
        await adapter.connect()
        assert not await adapter.lock.wait_released("door", "1ms")

    async def reconnect() -> None:
        await adapter.disconnect()
        async with adapter:
            await adapter.cache.set("key", 1)

    def elsewhere() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # of the transport
            asyncio.run(hold())
            asyncio.run(connect())
            asyncio.run(reconnect())
            gc.collect()

    async def hold() -> None:
        async with server.adapter() as other:
            assert await other.lock.acquire("door", "1h")

    await asyncio.to_thread(elsewhere)


async def test_closing_while_it_reconnects_ends_the_calls(server: RedisServer) -> None:
    async with Proxy.to("127.0.0.1", server.port) as proxy:
        adapter = RedisAdapter(port=proxy.port, connect_timeout="60s")
        async with adapter:
            proxy.cut()
            proxy.stop()
            await lost(adapter)
            reading = asyncio.create_task(adapter.cache.get("key"))
            await proxy.held.wait()
        with pytest.raises(ScopeNotOpen):
            await reading


async def test_a_closed_adapter_says_so(server: RedisServer) -> None:
    adapter = server.adapter()
    async with adapter:
        pass
    with pytest.raises(ScopeNotOpen):
        await adapter.cache.get("key")
