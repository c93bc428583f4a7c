"""Circuit states: the JSON that go-go-scope writes, and a count of successful probes in it.

go-go-scope lets a circuit expire an hour after its last write. goscope does not: a circuit that is
forced open stays so until somebody closes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from goscope.backend import (
    BaseCircuitBreakerStateProvider,
    Fence,
    StoreContext,
)
from goscope.errors import CorruptValue
from goscope.providers import CircuitBreakerState, CircuitState

from .._server.script import Script
from .._server.server import Server
from ..keys import Keys
from .fence import GUARD, check, guard

_STATE: Final = """
-- The state as a table, a closed one if there is none, or nil if it does not decode.
local function decode(text)
    if not text then
        return {state = 'closed', failureCount = 0}
    end
    local read, state = pcall(cjson.decode, text)
    if read and type(state) == 'table' and tonumber(state.failureCount) then
        return state
    end
end
-- Text, since the encoder of Lua rounds numbers and does not keep the order of fields.
local function encode(state)
    local fields = {'"state":"' .. state.state .. '"'}
    for _, name in ipairs({'failureCount', 'lastFailureTime', 'lastSuccessTime', 'successCount'}) do
        local value = tonumber(state[name])
        if value then
            table.insert(fields, '"' .. name .. '":' .. number(value))
        end
    end
    return '{' .. table.concat(fields, ',') .. '}'
end
"""
_SET: Final = Script(
    GUARD
    + """
if is_refused() then
    return 'fence'
end
redis.call('SET', KEYS[1], ARGV[1])
"""
)
_REPLACE: Final = Script(
    GUARD
    + """
if is_refused() then
    return 'fence'
end
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
    return 0
end
if ARGV[2] ~= '' then
    redis.call('SET', KEYS[1], ARGV[2])
end
return 1
"""
)
_RECORD_FAILURE: Final = Script(
    GUARD
    + _STATE
    + """
if is_refused() then
    return 'fence'
end
local state = decode(redis.call('GET', KEYS[1]))
if not state then
    return 'corrupt'
end
local count = tonumber(state.failureCount) + 1
local is_forced_open = state.state == 'open' and not tonumber(state.lastFailureTime)
if state.state == 'half-open' or count >= tonumber(ARGV[1]) then
    state.state = 'open'
end
state.failureCount = count
state.lastFailureTime = not is_forced_open and now_ms() or nil
state.successCount = nil
redis.call('SET', KEYS[1], encode(state))
return count
"""
)
_RECORD_SUCCESS: Final = Script(
    GUARD
    + _STATE
    + """
if is_refused() then
    return 'fence'
end
local state = decode(redis.call('GET', KEYS[1]))
if not state then
    return 'corrupt'
end
if ARGV[1] == '' or ARGV[1] == state.state then
    state.state = 'closed'
    state.failureCount = 0
    state.lastSuccessTime = now_ms()
    state.successCount = nil
    redis.call('SET', KEYS[1], encode(state))
end
"""
)


class _Stored(msgspec.Struct, rename="camel", omit_defaults=True):
    """A state as JSON; the names are go-go-scope's, except for the last one."""

    state: CircuitState
    failure_count: int = msgspec.field(default_factory=int)
    last_failure_time: float | None = None
    last_success_time: float | None = None
    success_count: int = 0


_decoder: Final = msgspec.json.Decoder(_Stored, strict=False)
_encoder: Final = msgspec.json.Encoder()


class RedisCircuitBreakerStateProvider(BaseCircuitBreakerStateProvider):
    """The states of circuits, one key each."""

    def __init__(self, context: StoreContext, server: Server, keys: Keys) -> None:
        super().__init__(context)
        self._server = server
        self._keys = keys

    async def _get(self, key: str) -> CircuitBreakerState | None:
        text = await self._server.call("GET", self._keys.name(key), repeatable=True)
        return None if text is None else self._decode(key, text)

    async def _set(self, key: str, state: CircuitBreakerState, fence: Fence | None) -> None:
        await self._run(_SET, key, fence, _encode(state))

    async def _update(
        self,
        key: str,
        change: Callable[[CircuitBreakerState | None], CircuitBreakerState | None],
        fence: Fence | None,
    ) -> None:
        replaced = 0
        while not replaced:
            text = await self._server.call("GET", self._keys.name(key), repeatable=True)
            state = change(None if text is None else self._decode(key, text))
            new = b"" if state is None else _encode(state)
            replaced = await self._run(_REPLACE, key, fence, text or "", new)

    async def _record_failure(self, key: str, max_failures: int, fence: Fence | None) -> int:
        count: int = await self._run(_RECORD_FAILURE, key, fence, max_failures)
        return count

    async def _record_success(
        self, key: str, expected: CircuitState | None, fence: Fence | None
    ) -> None:
        await self._run(_RECORD_SUCCESS, key, fence, expected or "")

    async def _run(
        self, script: Script, key: str, fence: Fence | None, *arguments: str | bytes | int
    ) -> Any:
        """Run a script with a `GUARD`. Raises `LeaseLost` and `CorruptValue`."""
        name = self._keys.name(key)
        guards, token = guard(self._keys, fence, name)
        answer = await self._server.run(script, (name, *guards), *arguments, token, replicated=True)
        if answer == b"corrupt":
            raise self._corrupt(key, "it is not the state of a circuit")
        return check(answer, fence)

    def _decode(self, key: str, text: bytes) -> CircuitBreakerState:
        try:
            return decode_state(text)
        except (msgspec.MsgspecError, UnicodeError) as exc:
            raise self._corrupt(key, str(exc)) from exc

    def _corrupt(self, key: str, reason: str) -> CorruptValue:
        return CorruptValue(key[len(f"{self.context.prefix}circuit:") :], reason)


def decode_state(text: bytes) -> CircuitBreakerState:
    """The state. Raises ``MsgspecError`` or ``UnicodeError`` for other texts."""
    found = _decoder.decode(text)
    return CircuitBreakerState(
        state=found.state,
        failure_count=found.failure_count,
        last_failure_time=_whole(found.last_failure_time),
        last_success_time=_whole(found.last_success_time),
        success_count=found.success_count,
    )


def _encode(state: CircuitBreakerState) -> bytes:
    return _encoder.encode(
        _Stored(
            state=state.state,
            failure_count=state.failure_count,
            last_failure_time=state.last_failure_time,
            last_success_time=state.last_success_time,
            success_count=state.success_count,
        )
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
