"""Leases against a table of current grants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import hypothesis.strategies as st
from hypothesis.stateful import Bundle, MultipleResults, multiple, precondition, rule

from ....errors import LeaseLost
from ....providers import LockHandle
from .._base import cache_of, locks_of
from ._machine import LONG_TTL_MS, SHORT_TTL_MS, Machine

KEYS: Final = ("a", "A", "a*", "idempotency:a")

any_key = st.sampled_from(KEYS)
any_owner = st.sampled_from(["me", "you"])
any_ttl = st.sampled_from([SHORT_TTL_MS, LONG_TTL_MS])


@dataclass(eq=False)
class Grant:
    """A grant in the model, with the handle of the provider."""

    key: str
    owner: str
    expires: int
    handle: LockHandle
    released: bool = False
    known_lost: bool = False
    """Whether the provider reported the loss, the release at the latest; ``lost`` may then stay."""


class LeaseMachine(Machine):
    """Every method of ``adapter.lease`` and its handles, and a fenced write."""

    role = "lease"
    grants: Bundle[Grant] = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, Grant] = {}
        self.last_token = 0
        self.fenced_value: object = None

    def current(self, key: str) -> Grant | None:
        """The grant that has not expired or ended."""
        grant = self.held.get(key)
        return None if grant is None or self.has_passed(grant.expires) else grant

    @rule(target=grants, key=any_key, owner=any_owner, ttl=any_ttl)
    def acquire(self, key: str, owner: str, ttl: int) -> Grant | MultipleResults[Grant]:
        ttl = self.ttl(ttl)
        handle = self.call(lambda it: locks_of(it, self.role).acquire(key, ttl, owner))
        self.check(f"acquire({key!r}) granted", handle is not None, self.current(key) is None)
        if handle is None:
            return multiple()
        token = handle.fencing_token
        if token is not None:
            assert token > self.last_token, f"token {token} came after token {self.last_token}"
            self.last_token = token
        self.held[key] = Grant(key, owner, self.now + ttl, handle)
        return self.held[key]

    @rule(grant=grants)
    def release(self, grant: Grant) -> None:
        was_current = self.call(lambda _: grant.handle.release())
        if was_current is False and not grant.released:
            grant.known_lost = True
        grant.released = True
        if self.held.get(grant.key) is grant:
            del self.held[grant.key]

    @rule(grant=grants, ttl=any_ttl)
    def extend(self, grant: Grant, ttl: int) -> None:
        ttl = self.ttl(ttl)
        extended = self.call(lambda _: grant.handle.extend(ttl))
        self.check(f"extend() of {grant}", extended, self.current(grant.key) is grant)
        if extended:
            grant.expires = self.now + ttl
        elif not grant.released:
            grant.known_lost = True

    @rule(key=any_key, owner=any_owner, ttl=any_ttl)
    def extend_by_owner(self, key: str, owner: str, ttl: int) -> None:
        ttl = self.ttl(ttl)
        extended = self.call(lambda it: locks_of(it, self.role).extend(key, ttl, owner))
        grant = self.current(key)
        if grant is None or grant.owner != owner:
            self.check(f"extend({key!r}, {owner!r})", extended, False)
        else:
            self.check(f"extend({key!r}, {owner!r})", extended, True)
            grant.expires = self.now + ttl

    @rule(key=any_key)
    def force_release(self, key: str) -> None:
        self.call(lambda it: locks_of(it, self.role).force_release(key))
        self.held.pop(key, None)

    @rule(key=any_key)
    def holder(self, key: str) -> None:
        found = self.call(lambda it: locks_of(it, self.role).holder(key))
        grant = self.current(key)
        self.check(f"holder({key!r})", found and found.owner, grant and grant.owner)

    @rule(grant=grants)
    def is_valid(self, grant: Grant) -> None:
        valid = self.call(lambda _: grant.handle.is_valid())
        self.check(f"is_valid() of {grant}", valid, self.current(grant.key) is grant)
        if grant.released:
            assert not grant.handle.lost or grant.known_lost, f"{grant} was released, not lost"
        else:
            self.check(f"lost of {grant} after is_valid()", grant.handle.lost, not valid)
            grant.known_lost = not valid

    @precondition(lambda self: self.call(_has_a_cache))
    @rule(grant=grants, value=st.integers(0, 9))
    def write_fenced(self, grant: Grant, value: int) -> None:
        """An expired lease still permits the write, unless it was taken over."""
        if grant.handle.fencing_token is None:
            return
        try:
            self.call(lambda it: cache_of(it).set("fenced", value, fence=grant.handle))
            applied = True
        except LeaseLost:
            applied = False
        is_held = self.held.get(grant.key) is grant
        self.check(f"a write under {grant} was applied", applied, is_held)
        if applied:
            self.fenced_value = value
        self.check("the value", self.call(lambda it: cache_of(it).get("fenced")), self.fenced_value)


class LockMachine(LeaseMachine):
    """The same for ``adapter.lock``."""

    role = "lock"


MACHINES: Final = {"lock": LockMachine, "lease": LeaseMachine}


async def _has_a_cache(adapter: object) -> bool:
    return getattr(adapter, "cache", None) is not None
