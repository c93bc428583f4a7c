"""Writes the parts of the documentation that follow from the code.

python -m tests.docs.generated

A part stands between ``<!-- generated: NAME -->`` and ``<!-- /generated -->``; a picture is a file.
"""

from __future__ import annotations

import asyncio
import re
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

import goscope
from goscope.memory import MemoryOptions
from goscope_bun_compat import BunSQLiteOptions
from goscope_mysql import MySQLOptions
from goscope_postgres import PostgresOptions
from goscope_redis import RedisOptions
from goscope_sqlite import SQLiteOptions

from .architecture_picture import picture

DOCS: Final = Path(__file__).parents[2] / "docs"
_PART: Final = re.compile(
    r"(?<=<!-- generated: )(?P<name>[^>]*?) -->\n.*?(?=<!-- /generated -->)", re.DOTALL
)
_OPTION: Final = re.compile(r"^\| (`\w+`(?:, `\w+`)*) \|[^|]*\| (.*) \|$", re.MULTILINE)
_ADAPTER_ONLY: Final = "for code that knows why; see the docstring of the adapter"

OPTIONS: Final[dict[str, tuple[type[msgspec.Struct], str]]] = {
    "memory": (MemoryOptions, "configuration.md"),
    "sqlite": (SQLiteOptions, "configuration.md"),
    "sqlite-bun": (BunSQLiteOptions, "configuration.md"),
    "postgres": (PostgresOptions, "backends/postgres.md"),
    "mysql": (MySQLOptions, "backends/mysql.md"),
    "redis": (RedisOptions, "backends/redis.md"),
}
"""The options of each backend, and the guide whose table says what they mean."""


def written(page: str) -> str:
    """The page with all its generated parts as they have to be."""
    return _PART.sub(lambda part: f"{part['name']} -->\n{PARTS[part['name']]()}", page)


def pages() -> list[Path]:
    """The pages that have generated parts."""
    return sorted(page for page in DOCS.rglob("*.md") if _PART.search(page.read_text()))


def options_table(backend: str) -> str:
    """The options of one backend: their values, and what its guide says of them."""
    options, guide = OPTIONS[backend]
    meanings = _meanings((DOCS / guide).read_text())
    lines = "| option | value | meaning |\n| --- | --- | --- |\n"
    for field in msgspec.structs.fields(options):
        meaning = meanings.get(field.encode_name, _ADAPTER_ONLY)
        lines += f"| `{field.encode_name}` | {_value(field)} | {meaning} |\n"
    return f"\n{lines}\n"


def _meanings(guide: str) -> dict[str, str]:
    rows: dict[str, str] = {}
    for names, meaning in _OPTION.findall(guide):
        for name in re.findall(r"`(\w+)`", names):
            # A link of the guide would lead elsewhere from another folder.
            rows.setdefault(name, re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", meaning))
    return rows


def _value(field: msgspec.structs.FieldInfo) -> str:
    """The default of an option, then what else it may be."""
    info = msgspec.inspect.type_info(field.type)
    kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
    choices: list[str] = []
    for kind in kinds:
        if isinstance(kind, msgspec.inspect.LiteralType):
            choices += [f"`{value}`" for value in kind.values]
        elif isinstance(kind, msgspec.inspect.BoolType):
            choices += ["`false`", "`true`"]
        elif not isinstance(kind, msgspec.inspect.NoneType):
            choices.append(_KINDS[type(kind)])
    if field.default is msgspec.NODEFAULT:
        return f"{choices[0]}, required"
    default = "none" if field.default is None else f"`{field.default}`"
    if isinstance(field.default, bool):
        default = default.lower()
    others = [choice for choice in choices if choice != default]
    return f"{default}; or {', '.join(others)}"


_KINDS: Final[dict[type[msgspec.inspect.Type], str]] = {
    msgspec.inspect.StrType: "text",
    msgspec.inspect.IntType: "a number",
    msgspec.inspect.FloatType: "a number",
}


def create_table_text() -> str:
    """The tables and indexes of a new file, as SQLite returns them."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "app.db"
        asyncio.run(_create(file))
        with closing(sqlite3.connect(file)) as database:
            rows = database.execute(
                "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
            )
            statements = [_dedented(sql) for (sql,) in rows]
    return "\n```sql\n" + "\n\n".join(statements) + "\n```\n\n"


async def _create(file: Path) -> None:
    async with goscope.Scope(backend="sqlite", path=str(file)):
        pass


def _dedented(sql: str) -> str:
    first, *rest = (line.strip() for line in sql.splitlines())
    inner = [line if line == ")" else f"    {line}" for line in rest]
    return "\n".join([first, *inner]) + ";"


def _options_of(backend: str) -> Callable[[], str]:
    return lambda: options_table(backend)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "tables of a file": create_table_text,
    **{f"options of {backend}": _options_of(backend) for backend in OPTIONS},
}

FILES: Final[dict[Path, Callable[[], str]]] = {
    DOCS / "_static" / "architecture.svg": lambda: picture((DOCS / "architecture.md").read_text()),
}

if __name__ == "__main__":
    for page in pages():
        page.write_text(written(page.read_text()))
    for file, text in FILES.items():
        file.write_text(text())
