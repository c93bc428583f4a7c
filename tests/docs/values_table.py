"""Writes the table in docs/values.md from what goscope does with each sample.

python -m tests.docs.values_table
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import attrs

import goscope

from .value_samples import SAMPLES, Sample

PAGE: Final = Path(__file__).parents[2] / "docs" / "values.md"
_TABLE: Final = re.compile(r"(?<=<!-- values -->\n)(.*?)(?=<!-- /values -->)", re.DOTALL)
_HEAD: Final = (
    "| you store | without a type you get | with its type you get |\n| --- | --- | --- |\n"
)
_REFUSED: Final = "refused when you store it"


def table() -> str:
    """The table as goscope behaves now."""
    return asyncio.run(_table())


def written_table() -> str:
    """The table as it stands in the page."""
    found = _TABLE.search(PAGE.read_text())
    return found.group(1) if found else ""


async def _table() -> str:
    lines = ""
    async with goscope.Scope(backend="memory") as gs:
        for title, samples in SAMPLES.items():
            lines += f"\n**{title}**\n\n{_HEAD}"
            for sample in samples:
                what = sample.what.replace("|", "\\|")
                lines += f"| {what} | {await _untyped(gs, sample)} | {await _typed(gs, sample)} |\n"
    return f"{lines}\n"


async def _untyped(gs: goscope.Scope, sample: Sample) -> str:
    try:
        await gs.cache.set("untyped", sample.value)
    except goscope.SerializationError:
        return _REFUSED
    found = await gs.cache.get("untyped")
    return "the same" if _is_same(found, sample.value) else _shape(found)


async def _typed(gs: goscope.Scope, sample: Sample) -> str:
    async def body() -> Any:
        return sample.value

    body.__annotations__["return"] = sample.type
    try:
        decorated: Callable[[], Awaitable[Any]] = gs.idempotent(f"typed:{sample.what}")(body)
    except goscope.ConfigurationError:
        return "refused when you decorate"
    try:
        first, replay = await decorated(), await decorated()
    except goscope.ResultNotStored:
        return _REFUSED
    if not (_is_same(first, sample.value) and _is_same(replay, sample.value)):
        return _shape(first) if first == replay else "two different values"
    return "the same"


def _is_same(found: Any, value: Any) -> bool:
    """Whether nothing differs; a list may stand for the tuple that a row needs."""
    kinds = _kind(found), _kind(value)
    if kinds in (("list", "list"), ("tuple", "list")):
        return all(map(_is_same, found, value)) and len(found) == len(value)
    return kinds[0] == kinds[1] and bool(found == value) and _state(found) == _state(value)


def _kind(value: object) -> str:
    return type(value).__name__


def _state(value: Any) -> Any:
    """Also what a class leaves out of its equality."""
    return attrs.asdict(value) if hasattr(value, "__attrs_attrs__") else _attributes(value)


def _attributes(value: object) -> Any:
    return getattr(value, "__dict__", None)


def _shape(found: Any) -> str:
    if _kind(found) == "list":
        kinds = list(dict.fromkeys(map(_kind, found)))
        return f"list of {kinds[0]}" if len(kinds) == 1 else "list"
    is_scalar = _kind(found) in ("str", "int", "float")
    return f"{_kind(found)} (`{found!r}`)" if is_scalar else _kind(found)


if __name__ == "__main__":
    PAGE.write_text(_TABLE.sub(lambda _: table(), PAGE.read_text()))
