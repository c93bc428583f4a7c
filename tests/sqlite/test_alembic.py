"""Alembic on a file that has goscope's tables: docs/sharing-the-file.md."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from goscope import Scope
from goscope_sqlite import SQLiteAdapter

MODELS = """
from sqlalchemy import Column, Integer, MetaData, Table
metadata = MetaData()
Table("orders", metadata, Column("id", Integer, primary_key=True))
"""

INCLUDE_OBJECT = """
def include_object(object, name, type_, reflected, compare_to):
    return not (type_ == "table" and name.startswith("go_goscope_"))
"""

INCLUDE_NAME = """
def include_name(name, type_, parent_names):
    return not (type_ == "table" and name.startswith("go_goscope_"))
"""


@pytest.fixture(autouse=True)
def _enabled_loggers() -> Iterator[None]:
    """Undo what the ``env.py`` of a project does: it disables all loggers that exist."""
    before = {name: logging.getLogger(name).disabled for name in logging.root.manager.loggerDict}
    yield
    for name, disabled in before.items():
        logging.getLogger(name).disabled = disabled


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with all tables of goscope and one of the host that no model describes."""
    path = tmp_path / "app.db"

    async def fill() -> None:
        async with Scope(persistence=SQLiteAdapter(path, locks="shared")) as gs:
            await gs.cache.set("key", 1, tags=["tag"])

    asyncio.run(fill())
    with closing(sqlite3.connect(path)) as host:
        host.execute("CREATE TABLE retired (id INTEGER PRIMARY KEY)")
    return path


class Project:
    """A project that ``alembic init`` made, with an ``env.py`` of the user."""

    def __init__(self, folder: Path, file: Path, filter: str, option: str) -> None:
        self.config = Config(folder / "alembic.ini")
        command.init(self.config, str(folder / "migrations"))
        self.config.set_main_option("script_location", str(folder / "migrations"))
        self.config.set_main_option("sqlalchemy.url", f"sqlite:///{file}")
        env = folder / "migrations" / "env.py"
        text = env.read_text()
        assert "target_metadata = None" in text
        text = text.replace("target_metadata = None", f"{MODELS}\ntarget_metadata = metadata")
        text = text.replace("target_metadata=target_metadata", f"{option}target_metadata=metadata")
        env.write_text(text.replace("config = context.config", f"config = context.config{filter}"))

    def autogenerate(self) -> str:
        """The migration that ``alembic revision --autogenerate`` writes."""
        script = command.revision(self.config, "change", autogenerate=True)
        return Path(script.path).read_text()  # type: ignore[union-attr]  # one script, no list

    def upgrade(self) -> None:
        command.upgrade(self.config, "head")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    made.mkdir()
    return made


def test_without_a_filter_alembic_would_drop_the_tables(folder: Path, file: Path) -> None:
    """Why the page says what it says."""
    migration = Project(folder, file, "", "").autogenerate()
    assert "op.drop_table('go_goscope_cache')" in migration


@pytest.mark.parametrize(
    ("filter", "option"),
    [
        (INCLUDE_OBJECT, "include_object=include_object, "),
        (INCLUDE_NAME, "include_name=include_name, "),
    ],
    ids=["include_object", "include_name"],
)
def test_with_a_filter_alembic_leaves_the_tables_alone(
    folder: Path, file: Path, filter: str, option: str
) -> None:
    project = Project(folder, file, filter, option)
    migration = project.autogenerate()
    assert "go_goscope" not in migration
    assert "idx_" not in migration
    assert "op.create_table('orders'" in migration
    assert "op.drop_table('retired')" in migration, "the host's own tables are compared"
    project.upgrade()

    async def read() -> object:
        async with Scope(persistence=SQLiteAdapter(file, locks="shared")) as gs:
            return await gs.cache.get("key")

    assert asyncio.run(read()) == 1


def test_every_table_of_the_file_has_the_prefix(file: Path) -> None:
    with closing(sqlite3.connect(file)) as host:
        names = [name for (name,) in host.execute("SELECT name FROM sqlite_schema WHERE sql <> ''")]
        tables = [
            name for (name,) in host.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        ]
    assert len(names) > len(tables) > 5
    assert all(name.startswith("go_goscope_") for name in tables if name != "retired")
