"""``python -m bench``: run the benchmarks and write what came of them."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from .plot import draw
from .progress import say
from .repeat import other_run
from .report import render
from .result import Report
from .size import SIZES
from .suite import PARTS, run

OUTPUT: Final = Path(__file__).parents[1] / "docs" / "performance"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status."""
    options = _parser().parse_args(arguments)
    output: Path = options.output
    other = None if options.against is None else other_run(_read(options.against))
    if options.render:
        report = _read(output / "results.json")
    else:
        with tempfile.TemporaryDirectory(prefix="goscope-bench-", dir=options.folder) as folder:
            report = run(Path(folder), SIZES[options.size], options.only or PARTS)
    report.other_run = other or report.other_run
    _write(report, output)
    say(f"written to {output}, after {report.seconds:.0f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full", help="how much to measure")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help="where the results go")
    parser.add_argument("--folder", help="where the databases go for the time being")
    parser.add_argument(
        "--render", action="store_true", help="write the pages of the last results again"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="results.json of a run to compare with"
    )
    return parser


def _read(path: Path) -> Report:
    return msgspec.json.decode(path.read_bytes(), type=Report)


def _write(report: Report, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    data = msgspec.json.format(msgspec.json.encode(report), indent=1)
    (output / "results.json").write_bytes(data + b"\n")
    (output / "results.md").write_text(render(report))
    (output / "workloads.svg").write_text(draw(report))


if __name__ == "__main__":
    sys.exit(main())
