"""Which libraries a module of tests needs."""

from __future__ import annotations

from importlib.util import find_spec

from tests.missing import missing


def require(*packages: str) -> None:
    """Skip the module without one of these packages; fail it in continuous integration."""
    absent = [package for package in packages if find_spec(package) is None]
    if absent:
        missing(f"not installed: {', '.join(absent)}; `make setup` installs it")
