"""No imports form a circle, neither between modules nor between packages."""

from __future__ import annotations

import pytest

from . import imports


def assert_no_circle(kind: str, graph: dict[str, set[str]]) -> None:
    circle = imports.find_circle(graph)
    assert circle is None, f"these {kind} import one another: " + " -> ".join(circle or ())


def test_no_modules_import_one_another() -> None:
    """Imports inside functions and under TYPE_CHECKING count too."""
    assert_no_circle("modules", imports.module_graph())


def test_no_packages_import_one_another() -> None:
    assert_no_circle("packages", imports.package_graph())


NO_NODES: set[str] = set()
GRAPHS: list[tuple[dict[str, set[str]], list[str] | None]] = [
    ({}, None),
    ({"a": {"b", "c"}, "b": {"c"}, "c": NO_NODES}, None),
    ({"a": {"a"}}, ["a", "a"]),
    ({"a": {"b"}, "b": {"c"}, "c": {"b"}}, ["b", "c", "b"]),
    ({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": {"a", "c"}}, ["c", "d", "c"]),
    ({"a": {"outside"}}, None),
]


@pytest.mark.parametrize(("graph", "circle"), GRAPHS)
def test_the_shortest_circle_is_found(graph: dict[str, set[str]], circle: list[str] | None) -> None:
    assert imports.find_circle(graph) == circle


def test_a_circle_is_reported_module_by_module() -> None:
    with pytest.raises(AssertionError, match="these modules import one another: b -> c -> b"):
        assert_no_circle("modules", {"a": {"b"}, "b": {"c"}, "c": {"b"}})


def test_the_graph_contains_the_imports_of_the_workspace() -> None:
    graph = imports.module_graph()
    assert "goscope.errors" in graph["goscope._tools.codec"]
    assert "goscope._records" in graph["goscope.errors"], "an import under TYPE_CHECKING is missing"
    assert "goscope" in imports.package_graph()["goscope_sqlite"]
