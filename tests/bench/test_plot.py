"""The plot shows every ratio, and is readable without colour."""

from __future__ import annotations

from xml.etree import ElementTree

from bench.plot import Axis, Mark, Panel, draw
from bench.result import Machine, Measurement, Report
from bench.summary import Quartiles

SVG = "{http://www.w3.org/2000/svg}"


def report(**seconds: float) -> Report:
    machine = Machine(
        date="",
        system="",
        processor="",
        cores=1,
        memory_gib=1,
        load_before=0,
        versions={},
    )
    measured = [
        Measurement(
            workload="set, 1 caller",
            subject=name,
            baseline="sqlite3",
            seconds=[taken],
        )
        for name, taken in seconds.items()
    ]
    return Report(size="", seconds=0, machine=machine, configuration={}, measurements=measured)


def test_every_subject_has_its_name_and_ratio() -> None:
    root = ElementTree.fromstring(draw(report(sqlite3=1.0, slow=20.0, fast=0.5)))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "set, 1 caller" in texts
    assert texts[texts.index("fast") + 1] == "0.50"
    assert texts[texts.index("slow") + 1] == "20"


def test_a_lower_ratio_is_further_left() -> None:
    root = ElementTree.fromstring(draw(report(sqlite3=1.0, slow=20.0, fast=0.5)))
    fast, slow = (float(dot.attrib["cx"]) for dot in root.iter(f"{SVG}circle"))
    assert fast < slow


def test_subject_names_are_escaped() -> None:
    root = ElementTree.fromstring(draw(report(sqlite3=1.0, **{"<a&b>": 1.0})))
    assert "<a&b>" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_axis_spans_all_ratios() -> None:
    axis = Axis.over([Panel("", [Mark("", Quartiles(0.003, 1, 450))])])
    assert axis.decades() == [0.001, 0.01, 0.1, 1, 10, 100, 1000]
