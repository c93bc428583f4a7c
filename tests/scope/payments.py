"""A service whose calls must not be repeated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Receipt:
    number: int


class PaymentService:
    """A service that must be called once; it numbers its receipts."""

    def __init__(self) -> None:
        self.charges = 0

    async def charge(self) -> Any:
        self.charges += 1
        return Receipt(self.charges)
