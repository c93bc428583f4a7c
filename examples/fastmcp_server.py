"""An MCP server whose results of tools are kept in a file: a restart does not lose them."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastmcp import FastMCP
from fastmcp.server.middleware.caching import CallToolSettings, ResponseCachingMiddleware

import goscope
from goscope.integrations.keyvalue import GoscopeKeyValue

gs = goscope.Scope("sqlite:///mcp.db")


@asynccontextmanager
async def lifespan(server: FastMCP) -> AsyncIterator[None]:
    async with gs:
        yield


mcp = FastMCP("words", lifespan=lifespan)
mcp.add_middleware(
    ResponseCachingMiddleware(
        cache_storage=GoscopeKeyValue(gs, "mcp"), call_tool_settings=CallToolSettings(ttl=3600)
    )
)
calls = 0


@mcp.tool
async def letters(word: str) -> str:
    """Count the letters of a word."""
    global calls
    calls += 1
    return f"{word} has {len(word)} letters (call {calls} of this process)"


if __name__ == "__main__":
    mcp.run("http", host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
