"""Results of idempotent calls against a dictionary."""

from __future__ import annotations

from typing import Final, NamedTuple

import hypothesis.strategies as st
from hypothesis.stateful import invariant, precondition, rule

from ....errors import LeaseLost
from ....providers import LockHandle
from .._base import idempotency_of, locks_of
from ._machine import LONG_TTL_MS, SHORT_TTL_MS, Machine

KEYS: Final = ("a", "A", "cache:a")

any_key = st.sampled_from(KEYS)
any_value = st.sampled_from([None, 0, "text", [1]])
any_fingerprint = st.sampled_from([None, "print"])
any_ttl = st.sampled_from([None, SHORT_TTL_MS, LONG_TTL_MS])


class Result(NamedTuple):
    value: object
    fingerprint: str | None
    expires: int | None


class IdempotencyMachine(Machine):
    """Every method, and completions under the lease of a call."""

    def __init__(self) -> None:
        super().__init__()
        self.results: dict[str, Result] = {}
        self.leases: dict[str, LockHandle] = {}

    def live(self, key: str) -> Result | None:
        result = self.results.get(key)
        return None if result is None or self.has_passed(result.expires) else result

    @rule(key=any_key, value=any_value, ttl=any_ttl, fingerprint=any_fingerprint)
    def set(self, key: str, value: object, ttl: int | None, fingerprint: str | None) -> None:
        ttl = self.ttl(ttl)
        self.call(lambda it: idempotency_of(it).set(key, value, ttl, fingerprint=fingerprint))
        self.results[key] = Result(value, fingerprint, self.deadline(ttl))

    @rule(key=any_key)
    def delete(self, key: str) -> None:
        deleted = self.call(lambda it: idempotency_of(it).delete(key))
        self.check(f"delete({key!r})", deleted, self.live(key) is not None)
        self.results.pop(key, None)

    @rule(key=any_key)
    def begin(self, key: str) -> None:
        """No lease expires within a history, so only a completion ends one."""
        handle = self.call(lambda it: locks_of(it).acquire(f"idempotency:{key}", "24h"))
        self.check(f"the lease of {key!r} is free", handle is not None, key not in self.leases)
        if handle is not None:
            self.leases[key] = handle

    @precondition(lambda self: self.leases)
    @rule(data=st.data(), value=any_value)
    def complete(self, data: st.DataObject, value: object) -> None:
        key = data.draw(st.sampled_from(sorted(self.leases)))
        lease = self.leases.pop(key)
        self.call(lambda it: idempotency_of(it).set(key, value, fence=lease))
        self.results[key] = Result(value, None, None)
        try:
            self.call(lambda it: idempotency_of(it).set(key, "again", fence=lease))
        except LeaseLost:
            return
        self.check(f"completing {key!r} twice", "accepted", "LeaseLost")

    @invariant()
    def all_results_match(self) -> None:
        for key in KEYS:
            self._check_result(key)

    def _check_result(self, key: str) -> None:
        found = self.call(lambda it: idempotency_of(it).get(key))
        result = self.live(key)
        fields = found and (found.value, found.fingerprint)
        self.check(f"get({key!r})", fields, result and (result.value, result.fingerprint))
