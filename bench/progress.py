"""Progress messages of a run."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Final

_STARTED_AT: Final = perf_counter()


def log_progress(text: str) -> None:
    """Print the next step and the elapsed seconds to stderr."""
    print(f"{perf_counter() - _STARTED_AT:5.0f} s  {text}", file=sys.stderr, flush=True)
