"""Draws the picture of the architecture from the table of imports in docs/architecture.md.

A box stands for some rows of the table. An arrow between two boxes is drawn where the table lets a
module of one import a module of the other, so the picture cannot contradict the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .arrows import Arrows

_WIDTH: Final = 760
_HEIGHT: Final = 560


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box is, what it says, and the modules it stands for."""

    x: int
    y: int
    width: int
    title: str
    text: str
    modules: tuple[str, ...]
    height: int = 58

    @property
    def middle(self) -> int:
        return self.x + self.width // 2


BOXES: Final = {
    "command": Box(
        20,
        100,
        150,
        "goscope",
        "command line",
        ("goscope.cli", "goscope.__main__", "goscope.migration"),
    ),
    "scope": Box(
        200,
        100,
        360,
        "goscope.Scope",
        "opens a store, hands out the building blocks",
        ("goscope._scope", "goscope._source", "goscope._settings", "goscope._plugins", "goscope"),
    ),
    "integrations": Box(
        590,
        100,
        150,
        "integrations",
        "FastAPI, metrics ...",
        ("goscope.integrations",),
    ),
    "testing": Box(20, 210, 150, "goscope.testing", "a clock, a recorder", ("goscope.testing",)),
    "features": Box(
        200,
        210,
        360,
        "building blocks",
        "locks, cache, breakers, tasks, idempotency",
        ("goscope.*",),
    ),
    "backend": Box(
        200,
        320,
        360,
        "goscope.backend, goscope.providers",
        "base classes and Protocols: what a store must do",
        (
            "goscope.backend",
            "goscope.providers",
            "goscope.events",
            "goscope.errors",
            "goscope.inspection",
            "goscope.maintenance",
            "goscope.hookspecs",
            "goscope._tools",
            "goscope._records",
        ),
    ),
    "memory": Box(20, 440, 100, "memory", "this process", ("goscope.memory",)),
    "sqlite": Box(
        132,
        440,
        160,
        "goscope_sqlite",
        "one file",
        (
            "goscope_sqlite",
            "goscope_sqlite.providers",
            "goscope_sqlite._engine",
            "goscope_sqlite.engine",
            "goscope_sqlite.schema",
            "goscope_sqlite.columns",
        ),
    ),
    "bun": Box(122, 522, 180, "goscope_bun_compat", "", ("goscope_bun_compat",), 30),
    "postgres": Box(
        304,
        440,
        146,
        "goscope_postgres",
        "PostgreSQL",
        (
            "goscope_postgres",
            "goscope_postgres.providers",
            "goscope_postgres._engine",
            "goscope_postgres.schema",
        ),
    ),
    "mysql": Box(
        462,
        440,
        130,
        "goscope_mysql",
        "MySQL, MariaDB",
        (
            "goscope_mysql",
            "goscope_mysql.providers",
            "goscope_mysql._engine",
            "goscope_mysql.schema",
            "goscope_mysql.columns",
            "goscope_mysql.clock",
        ),
    ),
    "redis": Box(
        604,
        440,
        136,
        "goscope_redis",
        "Redis, Valkey",
        (
            "goscope_redis",
            "goscope_redis.providers",
            "goscope_redis._server",
            "goscope_redis.keys",
            "goscope_redis.options",
        ),
    ),
}
"""The boxes, from top to bottom."""


def arrows(page: str) -> set[tuple[str, str]]:
    """The pairs of boxes of which the table lets the first import the second."""
    table = Arrows.of(page)
    return {
        (one, other)
        for one, box in BOXES.items()
        for other, target in BOXES.items()
        if one != other
        and any(
            (imported in table.allowed[importer])
            for importer in box.modules
            for imported in target.modules
            if importer in table.allowed
        )
    }


def picture(page: str) -> str:
    """The picture as SVG, in colors that suit a light and a dark page."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' font-family="system-ui, sans-serif">',
        "<title>Your program uses a scope; the building blocks run on any backend</title>",
        "<style>",
        "rect { fill: #f4f7fb; stroke: #4a6d94; }",
        "text { fill: #1b2733; font-size: 13px; text-anchor: middle; }",
        ".title { font-weight: 600; }",
        "path { stroke: #4a6d94; fill: none; stroke-width: 1.5; marker-end: url(#tip); }",
        "#tip path { fill: #4a6d94; stroke: none; marker-end: none; }",
        "@media (prefers-color-scheme: dark) {",
        "  rect { fill: #1d2733; stroke: #86a9d0; }",
        "  text { fill: #e4ebf2; }",
        "  path { stroke: #86a9d0; }",
        "  #tip path { fill: #86a9d0; }",
        "}",
        "</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>',
        _box(Box(200, 10, 360, "your program", "FastAPI, scripts, workers", ())),
        '<path d="M380 68 V98"/>',
    ]
    lines += [_box(box) for box in BOXES.values()]
    lines += [_arrow(BOXES[one], BOXES[other]) for one, other in sorted(_drawn(arrows(page)))]
    return "\n".join([*lines, "</svg>", ""])


def _drawn(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without arrows that follow from two others: they would hide the ones that matter."""
    return {
        (one, other)
        for one, other in pairs
        if not any((one, via) in pairs and (via, other) in pairs for via in BOXES)
    }


def _box(box: Box) -> str:
    first = box.y + (24 if box.text else 20)
    text = (
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6"/>'
        f'<text class="title" x="{box.middle}" y="{first}">{box.title}</text>'
    )
    if box.text:
        text += f'<text x="{box.middle}" y="{first + 20}">{box.text}</text>'
    return text


def _arrow(one: Box, other: Box) -> str:
    if one.y == other.y:  # side by side
        is_left = one.x < other.x
        start = one.x + one.width if is_left else one.x
        end = other.x - 2 if is_left else other.x + other.width + 2
        return f'<path d="M{start} {one.y + 29} H{end}"/>'
    is_above = one.y < other.y
    start_y = one.y + one.height if is_above else one.y
    end_y = other.y - 2 if is_above else other.y + other.height + 2
    # Straight up or down where the target is wide enough, else to its nearer side.
    end_x = max(other.x + 20, min(one.middle, other.x + other.width - 20))
    return f'<path d="M{one.middle} {start_y} L{end_x} {end_y}"/>'
