"""Circuit breakers that live in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..contender import Contender, Operation, peer

NEVER: Final = 1_000_000_000


class Pybreaker(Contender):
    name = "pybreaker"
    about = "CircuitBreaker(fail_max=never).call, synchronous: its asyncio support is Tornado's"
    packages = ("pybreaker",)

    async def open(self) -> None:
        self._breaker = peer("pybreaker").CircuitBreaker(fail_max=NEVER)

    def operations(self) -> Mapping[str, Operation]:
        return {"failure": self.failure, "healthy": self.healthy}

    async def failure(self, number: int) -> Any:
        try:
            self._breaker.call(_fail)
        except ZeroDivisionError:
            return self._breaker.current_state

    async def healthy(self, number: int) -> Any:
        return self._breaker.call(int)


class Aiobreaker(Contender):
    name = "aiobreaker"
    about = "CircuitBreaker(fail_max=never).call_async"
    packages = ("aiobreaker",)

    async def open(self) -> None:
        self._breaker = peer("aiobreaker").CircuitBreaker(fail_max=NEVER)

    def operations(self) -> Mapping[str, Operation]:
        return {"failure": self.failure, "healthy": self.healthy}

    async def failure(self, number: int) -> Any:
        try:
            await self._breaker.call_async(_fail_async)
        except ZeroDivisionError:
            return self._breaker.current_state

    def healthy(self, number: int) -> Any:
        return self._breaker.call_async(_succeed)


class Purgatory(Contender):
    name = "purgatory"
    about = "AsyncCircuitBreakerFactory(default_threshold=never), get_breaker each time"
    packages = ("purgatory",)

    async def open(self) -> None:
        self._factory = peer("purgatory").AsyncCircuitBreakerFactory(default_threshold=NEVER)

    def operations(self) -> Mapping[str, Operation]:
        return {"failure": self.failure, "healthy": self.healthy}

    async def failure(self, number: int) -> Any:
        breaker = await self._factory.get_breaker("service")
        try:
            async with breaker:
                _fail()
        except ZeroDivisionError:
            return breaker.context.state

    async def healthy(self, number: int) -> Any:
        async with await self._factory.get_breaker("service"):
            return await _succeed()


def _fail() -> None:
    raise ZeroDivisionError


async def _fail_async() -> None:
    raise ZeroDivisionError


async def _succeed() -> int:
    return 1
