"""``gs.idempotency`` and ``@gs.idempotent``: run a call once per key and replay its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Generic, NamedTuple, ParamSpec, TypeVar, overload

import msgspec

from ._key_template import KeyTemplate, fingerprint_digest
from ._lease_guard import LeaseGuard
from ._result import decode_result, return_type
from ._run_once import RunOnce
from ._runtime import Runtime
from ._single_flight import WaitTimeout
from ._tools.codec import encode
from ._tools.duration import Duration, ttl_milliseconds, wait_milliseconds
from .errors import FingerprintMismatch, OperationInProgress
from .events import IdempotentExecuted, IdempotentReplayed
from .providers import IdempotencyProvider, IdempotencyRecord

T = TypeVar("T")
P = ParamSpec("P")


class IdempotentResult(msgspec.Struct, Generic[T], frozen=True):
    """The result of an idempotent call, and whether it was replayed instead of computed."""

    value: T
    replayed: bool


class Idempotency:
    """Idempotent calls of one scope.

    At most one execution of a key runs at a time, in all processes that share the store. Its
    result is replayed until it expires. Errors are not remembered. When the process of a call dies
    the call runs once more, since nobody can know how far it got.
    """

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._calls: Final = RunOnce[_Outcome]()

    async def get(self, key: str) -> IdempotencyRecord | None:
        """The stored result of the key, None if there is none."""
        return await self._provider().get(key)

    async def delete(self, key: str) -> bool:
        """Forget the result, so that the next call runs; whether there was one."""
        return await self._provider().delete(key)

    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: type[T],
    ) -> T: ...
    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> T: ...

    async def run(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: Any = None,
    ) -> Any:
        """Run ``fn`` once per key and replay its result for ``ttl`` (None: forever).

        A duplicate waits for the call in flight, up to ``wait`` (0: not at all), and then raises
        `OperationInProgress`. ``fingerprint`` stands for the payload: another one under the same
        key raises `FingerprintMismatch`. The result is decoded to ``type`` if given. Errors are not
        remembered. At most one execution runs at a time; when its process dies, the call runs once
        more. A call that waits for its own key raises ``RuntimeError``.
        """
        result = await self.run_detailed(
            key, fn, ttl=ttl, wait=wait, fingerprint=fingerprint, type=type
        )
        return result.value

    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: type[T],
    ) -> IdempotentResult[T]: ...
    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[T]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> IdempotentResult[T]: ...

    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        *,
        ttl: Duration | None = "24h",
        wait: Duration | int | None = None,
        fingerprint: Any = None,
        type: Any = None,
    ) -> IdempotentResult[Any]:
        """As `run`, and report whether the result was replayed."""
        ttl_ms, wait_ms = ttl_milliseconds(ttl), wait_milliseconds(wait)
        return await self._run(key, fn, ttl_ms, wait_ms, fingerprint, type)

    async def _run(
        self,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        ttl_ms: int | None,
        wait_ms: int | None,
        fingerprint: Any,
        type: Any,
    ) -> IdempotentResult[Any]:
        runtime, provider = self._runtime(), self._provider()
        started = runtime.event_start()
        call = _Call(runtime, provider, key, fn, ttl_ms, fingerprint)
        record = await provider.get(key, type=type)
        if record is not None:
            call.check_fingerprint(record.fingerprint)
            value = record.value
        else:
            try:
                outcome = await self._calls.share(runtime, call, wait_ms)
            except WaitTimeout:
                raise OperationInProgress(key) from None
            call.check_fingerprint(outcome.fingerprint)
            value = decode_result(outcome.text, type, key)
        if not call.executed:
            runtime.emit(IdempotentReplayed, key, started)
        return IdempotentResult(value, not call.executed)

    def _provider(self) -> IdempotencyProvider:
        runtime = self._runtime()
        return runtime.require(runtime.adapter.idempotency, "idempotency")


class _Outcome(NamedTuple):
    """A result as JSON text, which every caller decodes for itself."""

    text: bytes
    fingerprint: str | None


class _Call:
    """One idempotent call, as `Work`."""

    def __init__(
        self,
        runtime: Runtime,
        provider: IdempotencyProvider,
        key: str,
        fn: Callable[[], Awaitable[Any]],
        ttl_ms: int | None,
        fingerprint: Any,
    ) -> None:
        self.key: Final = key
        self.lease: Final = f"idempotency:{key}"
        self.cancel_body: Final = True
        self.executed = False
        self._runtime = runtime
        self._provider = provider
        self._fn = fn
        self._ttl_ms = ttl_ms
        self._fingerprint = None if fingerprint is None else fingerprint_digest(fingerprint)

    def check_fingerprint(self, stored: str | None) -> None:
        """Raise `FingerprintMismatch` if the key was used with another payload."""
        if None not in (stored, self._fingerprint) and stored != self._fingerprint:
            raise FingerprintMismatch(self.key)

    async def stored(self) -> _Outcome | None:
        """The stored result, None if there is none."""
        record = await self._provider.get(self.key, type=msgspec.Raw)
        return None if record is None else _Outcome(bytes(record.value), record.fingerprint)

    async def execute(self, guard: LeaseGuard) -> _Outcome:
        """Run the function, then store its result and end the lease in one transaction."""
        started = self._runtime.event_start()
        text = encode(await self._fn())
        guard.disarm()
        await self._provider.set(
            self.key,
            msgspec.Raw(text),
            self._ttl_ms,
            fingerprint=self._fingerprint,
            fence=guard.handle,
        )
        guard.mark_released()
        self.executed = True
        self._runtime.emit(IdempotentExecuted, self.key, started)
        return _Outcome(text.encode(), self._fingerprint)


def idempotent(
    idempotency: Idempotency,
    function: Callable[P, Coroutine[Any, Any, T]],
    template: str,
    *,
    ttl_ms: int | None,
    wait_ms: int | None,
    fingerprint: str | None,
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Wrap a coroutine function so that each call goes through `Idempotency.run`."""
    signature = inspect.signature(function)
    key = KeyTemplate(template, signature)
    payload = None if fingerprint is None else KeyTemplate(fingerprint, signature)
    result_type = return_type(function)

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        result: IdempotentResult[T] = await idempotency._run(
            key.render(args, kwargs),
            lambda: function(*args, **kwargs),
            ttl_ms,
            wait_ms,
            None if payload is None else payload.render(args, kwargs),
            result_type(),
        )
        return result.value

    return wrapper
