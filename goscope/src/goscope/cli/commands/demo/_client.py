"""The HTTP client with which a worker calls the service."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec

from ._records import Record
from ._store import charge_key

WORKER_HEADER: Final = "X-Worker"
KEY_HEADER: Final = "Idempotency-Key"


class Place(msgspec.Struct, frozen=True):
    """The answer of the service about a place."""

    country: str
    subdivision: str
    fee: int


class Receipt(msgspec.Struct, frozen=True):
    """The answer of the service to a charge."""

    receipt: int


class ServiceFailed(Exception):
    """The service is unavailable; a later call may succeed."""


class ServiceClient:
    """Calls the service on behalf of one worker."""

    def __init__(self, url: str, worker: str) -> None:
        self._session = aiohttp.ClientSession(url, headers={WORKER_HEADER: worker})

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def place(self, record: Record) -> Place:
        """Look up the place of a record. Raises `ServiceFailed`."""
        parameters = {"subdivision": record.subdivision}
        async with self._session.get(f"/country/{record.country}", params=parameters) as response:
            if response.status == 503:
                raise ServiceFailed(f"the service is unavailable for {record.place}")
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=Place)

    async def charge(self, record: Record) -> Receipt:
        """Charge for a record. A repeated call is safe: the service recognizes the key."""
        headers = {KEY_HEADER: charge_key(record.icao)}
        async with self._session.post(f"/charge/{record.icao}", headers=headers) as response:
            response.raise_for_status()
            return msgspec.json.decode(await response.read(), type=Receipt)
