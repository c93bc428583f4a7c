"""Circuit breakers whose state is in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..subject import Operation, Subject, import_peer

NEVER: Final = 1_000_000_000


class Pybreaker(Subject):
    name = "pybreaker"
    about = "CircuitBreaker(fail_max=never).call, synchronous: its asyncio support needs Tornado"
    packages = ("pybreaker",)

    async def open(self) -> None:
        self._breaker = import_peer("pybreaker").CircuitBreaker(fail_max=NEVER)

    def operations(self) -> Mapping[str, Operation]:
        return {"failure": self.failure, "healthy": self.healthy}

    async def failure(self, number: int) -> Any:
        try:
            self._breaker.call(_fail)
        except ZeroDivisionError:
            return self._breaker.current_state

    async def healthy(self, number: int) -> Any:
        return self._breaker.call(int)


class Aiobreaker(Subject):
    name = "aiobreaker"
    about = "CircuitBreaker(fail_max=never).call_async"
    packages = ("aiobreaker",)

    async def open(self) -> None:
        self._breaker = import_peer("aiobreaker").CircuitBreaker(fail_max=NEVER)

    def operations(self) -> Mapping[str, Operation]:
        return {"failure": self.failure, "healthy": self.healthy}

    async def failure(self, number: int) -> Any:
        try:
            await self._breaker.call_async(_fail_async)
        except ZeroDivisionError:
            return self._breaker.current_state

    def healthy(self, number: int) -> Any:
        return self._breaker.call_async(_succeed)


class Purgatory(Subject):
    name = "purgatory"
    about = "AsyncCircuitBreakerFactory(default_threshold=never), get_breaker per call"
    packages = ("purgatory",)

    async def open(self) -> None:
        self._factory = import_peer("purgatory").AsyncCircuitBreakerFactory(default_threshold=NEVER)

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
