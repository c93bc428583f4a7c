"""Lua scripts: one for each atomic operation."""

from __future__ import annotations

import hashlib
from typing import Final, Literal, NamedTuple, TypeAlias

Flag: TypeAlias = Literal["no-writes", "allow-oom"]

PRELUDE: Final = """
local function now_us()
    local time = redis.call('TIME')
    return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
local function now_ms()
    return math.floor(now_us() / 1000)
end
local function number(value)
    return string.format('%.0f', value)
end
"""
"""What every script may use. A number of Lua must pass through ``number`` to become text: Lua
itself writes those above 10^14 with an exponent."""


class Script(NamedTuple):
    """A script without its prelude.

    The server refuses a script before its first command when its memory is full, unless a flag
    allows it: a script never stops half-way.
    """

    body: str
    flag: Flag | None = None

    def text(self, prelude: str) -> str:
        flags = "" if self.flag is None else f" flags={self.flag}"
        return f"#!lua{flags}\n{prelude}{self.body}"


class CompiledScript(NamedTuple):
    """The text of a script, and the digest under which a server knows it."""

    text: str
    digest: str


def compile_script(script: Script, prelude: str) -> CompiledScript:
    text = script.text(prelude)
    return CompiledScript(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
