"""One idempotent call: its body, and how its result is stored and decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from ._key_template import fingerprint_digest
from ._lease_guard import LeaseGuard
from ._outcome import Within, is_outcome
from ._result import decode_result, result_of
from ._result_policy import TtlMs, When, ttl_for
from ._runtime import Run, Runtime
from ._tools.cancellation import finish_before_cancel
from ._tools.codec import encode, encode_as
from .errors import (
    BackendBusy,
    BackendError,
    CapabilityMissing,
    FingerprintMismatch,
    LeaseLost,
    ResultNotStored,
    SerializationError,
)
from .events import IdempotentExecuted, IdempotentFailed, IdempotentStarted
from .providers import MISSING, IdempotencyProvider

MARKER: Final = "goscope:result_not_stored"
"""``{MARKER: reason}`` is stored for a call that is done and whose result cannot be stored.

It is JSON, so that go-go-scope does not take it for an absent result and run the call again.
"""

_MARKER_START: Final = b'{"' + MARKER.encode() + b'"'

MARKER_TTL_MS: Final = 86_400_000
"""How long the completion is remembered when ``ttl(result)`` raised: the default ttl."""


class CallOptions(NamedTuple):
    """How the result of a call is stored and waited for."""

    ttl: TtlMs
    wait_ms: int | None
    when: When | None


class StoredText(NamedTuple):
    """A result as JSON text, which every caller decodes for itself.

    ``result`` and ``cause`` are known in the process that could not store the result.
    """

    text: bytes
    fingerprint: str | None
    result: Any = MISSING
    cause: BaseException | None = None


class IdempotentCall:
    """One idempotent call, as `Work`."""

    def __init__(
        self,
        runtime: Runtime,
        provider: IdempotencyProvider,
        key: str,
        fn: Callable[[], Any],
        options: CallOptions,
        fingerprint: Any,
        type: Any,
        template: str | None,
    ) -> None:
        self.key: Final = key
        self.template: Final = template
        self.lease: Final = f"idempotency:{key}"
        self.owner: Final = None
        self.answer_ms: Final = None
        self.cancel_body: Final = True
        self.executed = False
        self._runtime = runtime
        self._provider = provider
        self._fn = fn
        self._options = options
        self._fingerprint = None if fingerprint is None else fingerprint_digest(fingerprint)
        self._type = type
        self._decoded: Any = MISSING

    async def stored(self) -> StoredText | None:
        """The stored result, None if there is none."""
        record = await self._provider.get(self.key, type=msgspec.Raw)
        return None if record is None else StoredText(bytes(record.value), record.fingerprint)

    def value(self, outcome: StoredText) -> Any:
        """The value of the outcome. Raises `FingerprintMismatch` and `ResultNotStored`."""
        if None not in (outcome.fingerprint, self._fingerprint) and (
            outcome.fingerprint != self._fingerprint
        ):
            raise FingerprintMismatch(self.key)
        if _is_marker(outcome.text):
            reason = str(msgspec.json.decode(outcome.text)[MARKER])
            raise ResultNotStored(self.key, reason, outcome.result) from outcome.cause
        if self._decoded is not MISSING:
            return self._decoded
        return decode_result(outcome.text, self._type, self.key)

    async def execute(self, guard: LeaseGuard) -> StoredText:
        """Run the function, then store its result and end the lease in one transaction."""
        runtime, key, template = self._runtime, self.key, self.template
        run = runtime.start_run(IdempotentStarted, key, template=template)
        try:
            return await self._run(guard, run)
        except BaseException as exc:
            runtime.fail_run(
                IdempotentFailed, key, run, exc, template=template, lease_lost=guard.lost
            )
            raise

    async def _run(self, guard: LeaseGuard, run: Run) -> StoredText:
        result = await result_of(self._fn)
        guard.disarm()
        # From here on the call is done: a cancellation must not make the next caller run it again.
        outcome = await finish_before_cancel(self._complete(result, guard))
        self.executed = True
        self._runtime.emit(
            IdempotentExecuted, self.key, run.since, template=self.template, run_id=run.id
        )
        return outcome

    async def _complete(self, returned: Any, guard: LeaseGuard) -> StoredText:
        """Store the result; if it cannot be stored, that the call is done."""
        result: Any = returned
        within: Within | None = None
        if is_outcome(returned):
            result, within = returned.value, returned.within
        remembered = True
        ttl_ms: int | None = MARKER_TTL_MS
        try:
            if self._options.when is not None and not self._options.when(result):
                remembered = False
            else:
                ttl_ms = ttl_for(self._options.ttl, result)
            text, self._decoded = encode_as(result, self._type)
            if _is_marker(text.encode()):
                raise SerializationError(f"a dict with the key {MARKER!r} is reserved")
            if within is not None:
                self._runtime.require_transactions()
        except Exception as exc:
            if not remembered:
                raise
            if isinstance(exc, CapabilityMissing):
                within = None
            return await self._store_marker(result, exc, ttl_ms, guard, within)
        if remembered:
            try:
                await self._store(text, ttl_ms, guard, within)
            except (LeaseLost, BackendBusy):
                raise
            except Exception as exc:
                if within is not None:  # a marker without the rows would lose them
                    raise
                return await self._store_marker(result, exc, ttl_ms, guard, None)
        return StoredText(text.encode(), self._fingerprint)

    async def _store_marker(
        self,
        result: Any,
        cause: Exception,
        ttl_ms: int | None,
        guard: LeaseGuard,
        within: Within | None,
    ) -> StoredText:
        """Store that the call is done."""
        text = encode({MARKER: str(cause).rstrip(".")})
        await self._store(text, ttl_ms, guard, within)
        return StoredText(text.encode(), self._fingerprint, result, cause)

    async def _store(
        self, text: str, ttl_ms: int | None, guard: LeaseGuard, within: Within | None
    ) -> None:
        """Store the text and end the lease; once more if others kept the store locked."""
        value, fence, fingerprint = msgspec.Raw(text.encode()), guard.handle, self._fingerprint
        for attempts_left in (1, 0):
            try:
                if within is None:
                    await self._provider.set(
                        self.key, value, ttl_ms, fingerprint=fingerprint, fence=fence
                    )
                else:
                    await self._runtime.require_transactions().set(
                        self.key, value, ttl_ms, within, fingerprint=fingerprint, fence=fence
                    )
            except BackendBusy as exc:
                if not attempts_left:
                    self._note_unrecorded(exc)
                    raise
            except Exception as exc:
                if isinstance(exc, BackendError) or (
                    within is not None and not isinstance(exc, LeaseLost)
                ):
                    self._note_unrecorded(exc)
                raise
            else:
                guard.mark_released()
                return

    def _note_unrecorded(self, failure: BaseException) -> None:
        failure.add_note(
            f"operation {self.key!r} succeeded, and the store could not record that: "
            f"the next call with this key runs it again"
        )


def _is_marker(text: bytes) -> bool:
    return text.startswith(_MARKER_START)
