"""Whether the store of a cache fails at the moment, and when to ask it again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from ._runtime import Runtime, error_details
from ._tools.choice import must_be
from .errors import BackendError
from .events import CacheStoreFailed, CacheStoreRecovered

CacheOnStoreError: TypeAlias = Literal["compute", "raise"]

ANSWER_LIMIT_MS: Final = 1_000
"""How long a call waits for the store to accept a write, before it goes on without the store."""

RETRY_MS: Final = 1_000
"""How long after a failure calls go on without asking the store; then one call asks again."""

_log = logging.getLogger("goscope")


def check_on_store_error(value: str) -> None:
    """Raise ``ValueError`` unless it is one of the choices."""
    if value not in get_args(CacheOnStoreError):
        raise ValueError(f"on_store_error {must_be(value, get_args(CacheOnStoreError))}")


class CacheOutage:
    """The failures of a cache's store while its scope is open; ``on_end`` is called after them."""

    def __init__(self, runtime: Runtime, on_end: Callable[[], None]) -> None:
        self.runtime: Final = runtime
        self._on_end = on_end
        self._key = ""
        self._template: str | None = None
        self._reads_fail = False
        self._writes_fail = False
        self._retry_at = 0

    @property
    def active(self) -> bool:
        """Whether a request has failed, and none of its kind has succeeded since."""
        return self._reads_fail or self._writes_fail

    def begin(
        self, key: str, failure: BackendError, *, writing: bool, template: str | None
    ) -> None:
        """Note a failure; the first one is logged and emitted."""
        if not self.active:
            self._key, self._template = key, template
            _log.warning(
                "the cache cannot use its store: values are computed and not stored until it "
                "works again: %s",
                failure,
            )
            self.runtime.emit(
                CacheStoreFailed, key, None, template=template, **error_details(failure)
            )
        if writing:
            self._writes_fail = True
        else:
            self._reads_fail = True
        self._retry_at = self.runtime.clock.steady_ms() + RETRY_MS

    def end(self, *, writing: bool) -> None:
        """Note a success. After a failed write only a write ends the outage.

        A store that is full, or that another process keeps locked, still answers reads.
        """
        if not self.active:
            return
        still_fails = self._writes_fail and not writing
        self._reads_fail, self._writes_fail = False, still_fails
        if not still_fails:
            _log.warning("the cache can use its store again")
            self.runtime.emit(CacheStoreRecovered, self._key, template=self._template)
            self._on_end()

    def may_read(self) -> bool:
        """Whether to ask the store for an entry."""
        return not self._reads_fail or self._is_retry()

    def may_write(self) -> bool:
        """Whether to ask the store for a lease."""
        return not self.active or self._is_retry()

    def _is_retry(self) -> bool:
        """Whether this call is the one that asks the store again."""
        now = self.runtime.clock.steady_ms()
        if now < self._retry_at:
            return False
        self._retry_at = now + RETRY_MS + ANSWER_LIMIT_MS  # until the answer to this call
        return True
