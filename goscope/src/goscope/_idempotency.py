"""``gs.idempotency`` and ``@gs.idempotent``: run a call once per key and replay its result."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from ._idempotent_call import MARKER, CallOptions, IdempotentCall, StoredText
from ._key_template import Fingerprint, FingerprintSource, KeyMaker, KeySource, key_maker
from ._outcome import Outcome, value_type
from ._result import require_type, return_type
from ._result_policy import ResultTtl, When, check_when, result_ttl
from ._run_once import RunOnce
from ._runtime import Runtime
from ._single_flight import WaitTimeout
from ._tools.duration import Duration, wait_milliseconds
from ._tools.key import check_key
from .errors import ConfigurationError, OperationInProgress, ResultNotStored
from .events import IdempotentReplayed
from .providers import IdempotencyProvider, IdempotencyRecord

T = TypeVar("T")
P = ParamSpec("P")

_CLIENT_KEYS: Final = (
    "If a client chose it, refuse the request (400), or, unless it is empty, use a digest in its "
    "place: hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()"
)


class IdempotentResult(msgspec.Struct, Generic[T], frozen=True):
    """The result of an idempotent call, and whether it was replayed instead of computed."""

    value: T
    replayed: bool


class Idempotency:
    """Idempotent calls of one scope.

    At most one execution of a key runs at a time, in all processes that share the store. Its
    result is replayed until it expires. Errors are not remembered. A call that succeeded is not run
    again when its result cannot be stored: then `ResultNotStored` answers every call. When the
    process of a call dies the call runs once more, since nobody can know how far it got.
    """

    def __init__(self, runtime: Callable[[], Runtime]) -> None:
        self._runtime = runtime
        self._calls: Final = RunOnce[StoredText]()

    async def get(self, key: str) -> IdempotencyRecord | None:
        """The stored result of the key, None if there is none. Raises `ResultNotStored`."""
        record = await self._provider().get(key)
        value: object = None if record is None else record.value
        if isinstance(value, dict) and MARKER in value:
            raise ResultNotStored(key, str(cast("dict[str, Any]", value)[MARKER]))
        return record

    async def delete(self, key: str) -> bool:
        """Forget the result, so that the next call runs; whether there was one."""
        return await self._provider().delete(key)

    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], object],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: type[T],
    ) -> T: ...
    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], Awaitable[Outcome[T]]],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> T: ...
    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], Outcome[T]],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> T: ...
    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], Awaitable[T]],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> T: ...
    @overload
    async def run(
        self,
        key: str,
        fn: Callable[[], T],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> T: ...

    async def run(
        self,
        key: str,
        fn: Callable[[], Any],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: Any = None,
    ) -> Any:
        """Run ``fn`` once per key and replay its result for ``ttl`` (None: forever).

        ``fn`` is a plain or a coroutine function. A duplicate waits for the call in flight, up to
        ``wait`` (None: no limit, 0: not at all), and then raises `OperationInProgress`.
        If ``fn`` returns an `Outcome`, your own statements are committed together with the result,
        or neither is: what they raise is raised here, and the next call runs ``fn`` again.
        ``fingerprint`` stands for the payload: another one under the same key raises
        `FingerprintMismatch`. The result is decoded to ``type`` if given. ``ttl`` may be a function
        of the result; a result for which ``when(result)`` is false is returned and not remembered,
        like an error.

        Errors are not remembered. A call that succeeded is not run again when its result cannot be
        stored: it and every later call raise `ResultNotStored`. At most one execution runs at a
        time; when its process dies, the call runs once more. A call that waits for its own key
        raises ``RuntimeError``; a ``type`` that JSON cannot be decoded to is a `ConfigurationError`
        before ``fn`` is called.
        """
        result = await self.run_detailed(
            key, fn, ttl=ttl, wait=wait, when=when, fingerprint=fingerprint, type=type
        )
        return result.value

    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], object],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: type[T],
    ) -> IdempotentResult[T]: ...
    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[Outcome[T]]],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> IdempotentResult[T]: ...
    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Outcome[T]],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> IdempotentResult[T]: ...
    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Awaitable[T]],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> IdempotentResult[T]: ...
    @overload
    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], T],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: None = None,
    ) -> IdempotentResult[T]: ...

    async def run_detailed(
        self,
        key: str,
        fn: Callable[[], Any],
        *,
        ttl: ResultTtl = "24h",
        wait: Duration | int | None = None,
        when: When | None = None,
        fingerprint: Any = None,
        type: Any = None,
    ) -> IdempotentResult[Any]:
        """As `run`, and report whether the result was replayed."""
        require_type(type)
        options = CallOptions(result_ttl(ttl), wait_milliseconds(wait), check_when(when))
        return await self.run_with(options, key, fn, fingerprint, type)

    async def run_with(
        self,
        options: CallOptions,
        key: str,
        fn: Callable[[], Any],
        fingerprint: Any,
        type: Any,
        template: str | None = None,
    ) -> IdempotentResult[Any]:
        """As `run_detailed`, with options and a type that are checked already."""
        runtime, provider = self._runtime(), self._provider()
        started = runtime.event_start()
        _check_key(key)
        call = IdempotentCall(runtime, provider, key, fn, options, fingerprint, type, template)
        outcome = await call.stored()
        if outcome is None:
            try:
                outcome = await self._calls.share(runtime, call, options.wait_ms)
            except WaitTimeout:
                raise OperationInProgress(key) from None
        value = call.value(outcome)
        if not call.executed:
            runtime.emit(IdempotentReplayed, key, started, template=template)
        return IdempotentResult(value, not call.executed)

    def require_transactions(self) -> None:
        """Raise `CapabilityMissing` if your own statements cannot be committed with a result."""
        self._runtime().require_transactions()

    def _provider(self) -> IdempotencyProvider:
        runtime = self._runtime()
        return runtime.require(runtime.adapter.idempotency, "idempotency")


def _check_key(key: str) -> None:
    try:
        check_key(key, "idempotency key")
    except ValueError as exc:
        raise ValueError(f"{exc}. {_CLIENT_KEYS}") from None


def _render(keys: KeyMaker, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    try:
        return keys.render(args, kwargs)
    except ConfigurationError:
        raise  # a mistake of the program
    except ValueError as exc:
        raise ValueError(f"{exc}. {_CLIENT_KEYS}") from None


class Idempotent(Protocol):
    """Decorates a coroutine function; returned by ``gs.idempotent(...)``."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, Outcome[T]]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> Callable[P, Coroutine[Any, Any, T]]: ...


def idempotent(
    idempotency: Idempotency,
    function: Callable[P, Coroutine[Any, Any, Any]],
    key: KeySource,
    options: CallOptions,
    fingerprint: FingerprintSource | None,
) -> Callable[P, Coroutine[Any, Any, Any]]:
    """Wrap a coroutine function so that each call goes through `Idempotency.run`."""
    result_type = return_type(function, value_type=value_type)
    signature = inspect.signature(function)
    keys = key_maker(key, signature, function)
    payload = None if fingerprint is None else Fingerprint(fingerprint, signature)

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> Any:
        annotation = result_type()
        result_value_type = value_type(annotation)
        if result_value_type is not annotation:
            idempotency.require_transactions()  # before the function is called
        result: IdempotentResult[Any] = await idempotency.run_with(
            options,
            _render(keys, args, kwargs),
            lambda: function(*args, **kwargs),
            None if payload is None else payload.of(args, kwargs),
            result_value_type,
            keys.template,
        )
        return result.value

    return wrapper
