"""``@gs.cached``: a coroutine function whose results are cached."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from ._cache import Cache
from ._cache_loader import CacheLoader, LoadRequest
from ._cache_outage import CacheOnStoreError, check_on_store_error
from ._function_like import FunctionLike, MethodLike, let_classmethods_bind
from ._key_template import DefaultKey, KeyMaker, KeySource, KeyTemplate, key_maker
from ._result import return_type
from ._result_policy import TtlMs, When

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


class CachedFunction(FunctionLike, Generic[P, R]):
    """A coroutine function whose results are cached, as ``@gs.cached`` returns it."""

    def __init__(
        self,
        cache: Cache,
        loader: CacheLoader,
        function: Callable[P, Coroutine[Any, Any, R]],
        ttl: TtlMs,
        *,
        key: KeySource | None,
        tags: Sequence[str],
        stale_for_ms: int | None,
        when: When | None,
        on_store_error: CacheOnStoreError,
    ) -> None:
        check_on_store_error(on_store_error)
        self._type = return_type(function)
        signature = inspect.signature(function)
        self._cache = cache
        self._loader = loader
        self._function = function
        self._ttl = ttl
        self._stale_for_ms = stale_for_ms
        self._when = when
        self._on_store_error: CacheOnStoreError = on_store_error
        self._key: KeyMaker = (
            DefaultKey(function, signature) if key is None else key_maker(key, signature, function)
        )
        self._tags = [KeyTemplate(tag, signature) for tag in tags]
        super().__init__(function)
        let_classmethods_bind(self)

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The cached result of the call, computed if it is absent."""
        value: R = await self._loader.get_or_set(self._request(args, kwargs))
        return value

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """The cache key of a call with these arguments."""
        return self._key.render(args, kwargs)

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Remove the result of the call with these arguments; whether there was one.

        A result that is being computed, in whatever process, is not stored, and later calls do not
        share it.
        """
        return await self._cache.delete(self._key.render(args, kwargs))

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Compute and store the result of the call, whether or not it is there.

        Raises `BackendError` when the store fails, whatever ``on_store_error`` says: the old result
        would stay.
        """
        value: R = await self._loader.refresh(self._request(args, kwargs))
        return value

    @overload
    def __get__(self, instance: None, owner: type) -> CachedFunction[P, R]: ...
    @overload
    def __get__(
        self: CachedFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> CachedMethod[Q, R]: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        return self if instance is None else CachedMethod(self, instance)

    def _request(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> LoadRequest:
        tags = tuple(tag.render(args, kwargs) for tag in self._tags)
        return LoadRequest(
            self._key.render(args, kwargs),
            lambda: self._function(*args, **kwargs),
            self._type(),
            self._ttl,
            self._stale_for_ms,
            tags,
            self._when,
            self._on_store_error,
            self._key.template,
        )


class CachedMethod(MethodLike, Generic[Q, R]):
    """A cached function bound to an instance or a class."""

    def __init__(self, function: CachedFunction[Any, R], instance: object) -> None:
        super().__init__(function, instance)
        self._function = function
        self._instance = instance

    async def __call__(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """The cached result of the call, computed if it is absent."""
        return await self._function(self._instance, *args, **kwargs)

    def key(self, *args: Q.args, **kwargs: Q.kwargs) -> str:
        """The cache key of a call with these arguments."""
        return self._function.key(self._instance, *args, **kwargs)

    async def invalidate(self, *args: Q.args, **kwargs: Q.kwargs) -> bool:
        """Remove the result of the call with these arguments; whether there was one."""
        return await self._function.invalidate(self._instance, *args, **kwargs)

    async def refresh(self, *args: Q.args, **kwargs: Q.kwargs) -> R:
        """Compute and store the result of the call, whether or not it is there."""
        return await self._function.refresh(self._instance, *args, **kwargs)
