"""Runs the Python program on standard input, with top-level await."""

from __future__ import annotations

import ast
import asyncio
import inspect
import linecache
import sys

NAME = "example"

source = sys.stdin.read()
linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
code = compile(source, NAME, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
# In the namespace of `__main__`, as a program: pickle looks for its classes there.
result = eval(code, vars(sys.modules["__main__"]))
if inspect.iscoroutine(result):
    asyncio.run(result)
