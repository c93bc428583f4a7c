"""Stores of the tests on the server at GOSCOPE_TEST_REDIS_URL, and their time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from goscope.testing import FakeClock
from goscope_redis import RedisAdapter
from goscope_redis._server.script import PRELUDE, Script
from goscope_redis.options import options_from_url

URL: Final = os.environ.get("GOSCOPE_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")

_STOPPED: Final = """
local server = redis
local far = 400 * 86400000
local clock = '%sclock'
local function now()
    local time = server.call('TIME')
    local ms = string.format('%%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
    server.pcall('SET', clock, ms, 'NX') -- a script without writes may not; another one came first
    return tonumber(server.call('GET', clock) or ms)
end
local function text(number)
    return string.format('%%.0f', number)
end
local redis = {sha1hex = server.sha1hex}
function redis.call(command, ...)
    local arguments = {...}
    if command == 'TIME' then
        return {text(math.floor(now() / 1000)), text(now() %% 1000 * 1000)}
    elseif command == 'PEXPIREAT' then
        arguments[2] = text(arguments[2] + far)
    elseif command == 'PEXPIRE' then
        return server.call('PEXPIREAT', arguments[1], text(now() + arguments[2] + far))
    elseif command == 'SET' and arguments[3] == 'PXAT' then
        arguments[4] = text(arguments[4] + far)
    elseif command == 'SET' and arguments[3] == 'PX' then
        arguments[3], arguments[4] = 'PXAT', text(now() + arguments[4] + far)
    elseif command == 'PEXPIRETIME' or command == 'PTTL' then
        local found = server.call('PEXPIRETIME', ...)
        return found < 0 and found or found - far - (command == 'PTTL' and now() or 0)
    end
    return server.call(command, unpack(arguments))
end
"""
"""Stops the time that a script sees, until `advance` moves it.

A script adds 400 days to each expiry that it sets, so that however slow the machine is, nothing
expires by itself.
"""

_ADVANCE: Final = Script(
    """
local time = now() + ARGV[2]
server.call('SET', clock, text(time))
for _, name in ipairs(server.call('KEYS', ARGV[1])) do
    local expires = server.call('PEXPIRETIME', name)
    if expires >= 0 and expires - far <= time then
        server.call('DEL', name)
    end
end
"""
)
"""Moves the time, and removes what has expired by then."""


def tag_of(folder: Path) -> str:
    """The hash tag of the store that belongs to the folder."""
    return f"test-{hashlib.sha1(str(folder).encode()).hexdigest()[:16]}"


@asynccontextmanager
async def open_store(folder: Path, **options: Any) -> AsyncGenerator[RedisAdapter]:
    """Open the store of the folder, with a clock that `advance` moves if ``clock`` is a fake."""
    address = options_from_url(urlsplit(URL))
    adapter = RedisAdapter(**address, hash_tag=tag_of(folder), **options)
    if isinstance(options.get("clock"), FakeClock):
        adapter._server.prelude = _STOPPED % f"{{{tag_of(folder)}}}" + PRELUDE
    async with adapter:
        yield adapter


async def advance(adapter: RedisAdapter, clock: FakeClock, duration: timedelta | str) -> None:
    """Let time pass on the server, for this store, and on the clock."""
    before = clock.steady_ms()
    probe = FakeClock(steady_ms=before)
    await probe.advance(duration)
    space = adapter._keys.space
    milliseconds = probe.steady_ms() - before
    await adapter._server.run(_ADVANCE, [f"{space}clock"], f"{space}*", milliseconds)
    await clock.advance(duration)


async def remove_store(folder: Path) -> None:
    """Remove every key of the store."""
    address = options_from_url(urlsplit(URL))
    async with RedisAdapter(**address, hash_tag=tag_of(folder)) as adapter:
        async for names in adapter._server.scan(f"{adapter._keys.space}*"):
            if names:
                await adapter._server.call("UNLINK", *names)
