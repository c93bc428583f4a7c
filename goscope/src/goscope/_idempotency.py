"""``gs.once`` and ``@gs.idempotent``: run a call once per key and replay its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, NamedTuple, ParamSpec, TypeVar

import msgspec

from ._key_template import KeyTemplate, fingerprint_digest
from ._lease import LeaseGuard
from ._result import decode_result, return_type
from ._runtime import Runtime
from ._single_flight import Bodies, GaveUp, SingleFlight
from .backend import encode, lease_key
from .errors import FingerprintMismatch, OperationInProgress
from .events import IdempotentExecuted, IdempotentReplayed
from .providers import IdempotencyProvider, IdempotencyRecord

T = TypeVar("T")
P = ParamSpec("P")


class Once(msgspec.Struct, Generic[T], frozen=True):
    """The result of an idempotent call, and whether it was replayed instead of computed."""

    value: T
    replayed: bool


class _Outcome(NamedTuple):
    text: str
    fingerprint: str | None
    replayed: bool


class Idempotency:
    """Idempotent calls of one scope.

    At most one execution of a key runs at a time, in all processes that share the store. Its
    result is replayed until it expires. Errors are not remembered. When the caller's process dies
    the call runs once more, since nobody can know how far it came.
    """

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._flights: Final = SingleFlight[_Outcome]()
        self._bodies: Final = Bodies()

    async def get(self, key: str) -> IdempotencyRecord | None:
        """The stored result of the key, None if there is none."""
        return await self._provider().get(key)

    async def delete(self, key: str) -> bool:
        """Forget the result, so that the next call runs; whether there was one."""
        return await self._provider().delete(key)

    async def once(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl_ms: int | None,
        wait_ms: int | None,
        fingerprint: Any,
        type: Any,
    ) -> Once[Any]:
        """Replay the result of the key, or run ``fn`` under the key's lease and store it."""
        runtime = self._runtime()
        began = runtime.clock.steady_ms()
        call = _Call(runtime, self._provider(), key, fn, ttl_ms, fingerprint)
        outcome = await call.replay() or await self._run(call, wait_ms)
        call.check_fingerprint(outcome.fingerprint)
        if outcome.replayed and runtime.observers.active:
            duration_ms = runtime.clock.steady_ms() - began
            runtime.observers.emit(IdempotentReplayed(key=key, duration_ms=duration_ms))
        return Once(decode_result(outcome.text, type, key), outcome.replayed)

    async def _run(self, call: _Call, wait_ms: int | None) -> _Outcome:
        """Lead the key's flight in this process, or share the leader's outcome."""
        led = False

        async def lead(left_ms: int | None) -> _Outcome:
            nonlocal led
            led = True
            with self._bodies.running(call.key):
                return await call.run(left_ms)

        if wait_ms != 0:
            self._bodies.refuse_own(call.key)

        try:
            outcome = await self._flights.do(
                call.key, lead, clock=call.runtime.clock, wait_ms=wait_ms
            )
        except GaveUp:
            raise OperationInProgress(call.key) from None
        return outcome if led else outcome._replace(replayed=True)

    def _provider(self) -> IdempotencyProvider:
        runtime = self._runtime()
        return runtime.require(runtime.adapter.idempotency, "idempotency")


class _Call:
    """One call of ``once``."""

    def __init__(
        self,
        runtime: Runtime,
        provider: IdempotencyProvider,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        ttl_ms: int | None,
        fingerprint: Any,
    ) -> None:
        self.runtime: Final = runtime
        self.key: Final = key
        self._provider = provider
        self._fn = fn
        self._ttl_ms = ttl_ms
        self._fingerprint = None if fingerprint is None else fingerprint_digest(fingerprint)

    def check_fingerprint(self, stored: str | None) -> None:
        """Raise `FingerprintMismatch` if the key was used with another payload."""
        if None not in (stored, self._fingerprint) and stored != self._fingerprint:
            raise FingerprintMismatch(self.key)

    async def replay(self) -> _Outcome | None:
        """The stored result, if there is one."""
        record = await self._provider.get(self.key)
        if record is None:
            return None
        return _Outcome(encode(record.value), record.fingerprint, replayed=True)

    async def run(self, wait_ms: int | None) -> _Outcome:
        """Wait for the key's lease, then run; or replay what another process stored meanwhile."""
        runtime = self.runtime
        while True:
            granted = await runtime.leases.acquire(
                lease_key(self.key), runtime.lease_ttl_ms, wait_ms=wait_ms, finished=self._is_stored
            )
            if granted is not None:
                break
            outcome = await self.replay()
            if outcome is not None:
                return outcome
            if wait_ms is not None:
                raise GaveUp
        async with runtime.guard(granted, self.key) as guard:
            # It may have been stored between the first look and the grant.
            return await self.replay() or await self._execute(guard)

    async def _execute(self, guard: LeaseGuard) -> _Outcome:
        runtime = self.runtime
        began = runtime.clock.steady_ms()
        value = await self._fn()
        text = encode(value)
        guard.disarm()
        await self._provider.set(
            self.key,
            value,
            self._ttl_ms,
            fingerprint=self._fingerprint,
            fence=guard.handle,
        )
        guard.ended()  # storing the result was its last act, in one transaction
        if runtime.observers.active:
            duration_ms = runtime.clock.steady_ms() - began
            runtime.observers.emit(IdempotentExecuted(key=self.key, duration_ms=duration_ms))
        return _Outcome(text, self._fingerprint, replayed=False)

    async def _is_stored(self) -> bool:
        return await self._provider.get(self.key) is not None


def idempotent(
    idempotency: Idempotency,
    function: Callable[P, Coroutine[Any, Any, T]],
    template: str,
    *,
    ttl_ms: int | None,
    wait_ms: int | None,
    fingerprint: str | None,
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap a coroutine function so that each call runs through `Idempotency.once`."""
    signature = inspect.signature(function)
    key = KeyTemplate(template, signature)
    payload = None if fingerprint is None else KeyTemplate(fingerprint, signature)
    result_type = return_type(function)

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        once = await idempotency.once(
            key.render(args, kwargs),
            lambda: function(*args, **kwargs),
            ttl_ms=ttl_ms,
            wait_ms=wait_ms,
            fingerprint=None if payload is None else payload.render(args, kwargs),
            type=result_type(),
        )
        value: T = once.value
        return value

    return wrapper
