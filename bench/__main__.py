"""Run the benchmarks, write their samples and render the report."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from .comparison import other_run
from .plot import draw
from .progress import log_progress
from .report import render
from .result import Report
from .size import SIZES
from .suite import BENCHMARKS, run

ROOT: Final = Path(__file__).parents[1]
OUTPUT: Final = ROOT / "build" / "bench"
"""Git ignores this folder: the samples of a full run are thousands of lines."""

PUBLISHED: Final = ROOT / "docs" / "performance"


def main(arguments: list[str] | None = None, published: Path = PUBLISHED) -> int:
    """Run the command line, and return the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    output: Path = options.output
    samples = output / "results.json"
    if options.render and not samples.exists():
        parser.error(f"{samples} does not exist: run the benchmarks first, or pass --output")
    other = None if options.against is None else other_run(_read(options.against))
    if options.render:
        report = _read(samples)
    else:
        with tempfile.TemporaryDirectory(prefix="goscope-bench-", dir=options.folder) as folder:
            report = run(Path(folder), SIZES[options.size], options.only or BENCHMARKS)
    report.other_run = other or report.other_run
    output.mkdir(parents=True, exist_ok=True)
    _write_samples(report, samples)
    _write_report(report, output)
    log_progress(f"wrote {output} after {report.seconds:.0f} s")
    if options.publish:
        _write_report(report, published)
        log_progress(f"published the report in {published}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full", help="how much to measure")
    parser.add_argument(
        "--only",
        action="append",
        choices=BENCHMARKS,
        metavar="BENCHMARK",
        help=f"run only this benchmark; repeatable. One of: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        help="folder for results.json (the samples), results.md and workloads.svg (the report); "
        "default: build/bench",
    )
    parser.add_argument("--folder", help="parent folder of the temporary databases")
    parser.add_argument(
        "--render",
        action="store_true",
        help="measure nothing: render the report again from results.json in the output folder",
    )
    parser.add_argument(
        "--publish",
        action="store_true",
        help="also write the report, without the samples, to docs/performance",
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="compare with the run whose results.json this is",
    )
    return parser


def _read(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


def _write_samples(report: Report, path: Path) -> None:
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    path.write_bytes(data + b"\n")


def _write_report(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(render(report))
    (folder / "workloads.svg").write_text(draw(report))


if __name__ == "__main__":
    sys.exit(main())
