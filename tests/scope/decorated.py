"""Functions and methods decorated in every way, at module level, where pickle finds them."""

from __future__ import annotations

from typing import Any

from goscope import Scope, TaskContext

gs = Scope(backend="memory")
breaker = gs.circuit_breaker("decorated")


@gs.cached("5m")
async def cached(user_id: int, *, fresh: bool = False) -> str:
    """A cached function."""
    return f"{user_id} {fresh}"


@gs.idempotent("idempotent:{user_id}")
async def idempotent(user_id: int, *, fresh: bool = False) -> str:
    """An idempotent function."""
    return f"{user_id} {fresh}"


@breaker
async def guarded(user_id: int, *, fresh: bool = False) -> str:
    """A guarded function."""
    return f"{user_id} {fresh}"


@gs.resumable("resumable:{user_id}")
async def resumable(task: TaskContext[Any], user_id: int, *, fresh: bool = False) -> str:
    """A resumable function."""
    return f"{user_id} {fresh}"


class Repository:
    """Each method counts its calls, and returns its class, its name and the count."""

    table = "users"
    calls = 0

    def __init__(self, name: str = "main") -> None:
        self.name = name

    @gs.cached("5m", key="method:{self.name}:{user_id}")
    async def method(self, user_id: int) -> list[Any]:
        """A cached method."""
        return self.called(user_id)

    @classmethod
    @gs.cached("5m", key="class:{cls.table}:{user_id}")
    async def of_class(cls, user_id: int) -> list[Any]:
        """A cached class method."""
        return cls.called(user_id)

    @staticmethod
    @gs.cached("5m", key="static:{user_id}")
    async def static(user_id: int) -> list[Any]:
        """A cached static method."""
        return Repository.called(user_id)

    @gs.idempotent("method:{user_id}")
    async def idempotent(self, user_id: int) -> list[Any]:
        """An idempotent method."""
        return self.called(user_id)

    @classmethod
    @gs.idempotent("class:{user_id}")
    async def idempotent_of_class(cls, user_id: int) -> list[Any]:
        """An idempotent class method."""
        return cls.called(user_id)

    @classmethod
    def called(cls, user_id: int) -> list[Any]:
        Repository.calls += 1
        return [cls.__name__, user_id, Repository.calls]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Repository) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]  # compared by value


class Archive(Repository):
    table = "archive"
