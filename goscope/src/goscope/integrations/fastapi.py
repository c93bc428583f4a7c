"""A scope in a FastAPI application. Needs ``goscope[fastapi]``.

app = FastAPI(lifespan=lifespan(gs), exception_handlers=exception_handlers())
app.add_api_route("/health", health)

@app.get("/stock/{article}")
async def stock(article: str, gs: ScopeDependency) -> int: ...
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

from fastapi import Depends

from .._scope import Scope
from .starlette import exception_handlers, get_scope, health, lifespan

__all__ = ["ScopeDependency", "exception_handlers", "get_scope", "health", "lifespan"]

ScopeDependency: TypeAlias = Annotated[Scope, Depends(get_scope)]
"""The annotation of a parameter that gets the scope of the application.

Depend on it, and not on the scope of a module, to replace it in tests with
``app.dependency_overrides[get_scope]``.
"""
