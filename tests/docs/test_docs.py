"""The links of the documentation resolve, its examples run, and what it names exists."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name

import pytest

import goscope.backend
from goscope import Scope

from .markdown import Example, anchors, examples, inline_code, links, make_commands, paths

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("run_example.py")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("goscope*/*.md"), *ROOT.glob("docs/**/*.md")])

FOR_DEVELOPERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "architecture.md"]
"""Pages whose paths are those of this repository. The guides name files of the reader's project."""

NOT_PYTHON = {"goscope.backends", "goscope.plugins", "goscope.schemes", "goscope.toml"}
"""Entry point groups and a file, which look like names of modules."""

PYTHON_NAME = re.compile(
    r"@?((?:gs|goscope(?:_bun_compat|_mysql|_postgres|_redis|_sqlite)?)(?:\.\w+)+)(?:\(|$)"
)

WITHOUT_HISTORY = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""The changelog also has the names from before a change."""

EXAMPLES = [
    pytest.param(example, id=f"{page.relative_to(ROOT)}:{example.line}")
    for page in PAGES
    for example in examples(page.read_text())
]

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def run(example: Example, folder: Path) -> subprocess.CompletedProcess[str]:
    # Unbuffered, as in a terminal: what the example starts may print in between.
    return subprocess.run(
        [sys.executable, "-u", "-W", "error", RUNNER],
        input=example.code,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@each_page
def test_links_resolve(page: Path) -> None:
    """Links within this repository; addresses elsewhere are not requested."""
    dead: list[str] = []
    for link in links(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert dead == []


@pytest.mark.long
@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example: Example, tmp_path: Path) -> None:
    if example.needs is not None and find_spec(example.needs) is None:
        pytest.skip(f"{example.needs} is not installed; `make bench` installs most peers")
    done = run(example, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    if example.output is not None:
        assert done.stdout == example.output


def test_the_quick_start_shows_its_output() -> None:
    first, *_ = examples((ROOT / "README.md").read_text())
    assert first.output


@each_page
def test_make_commands_exist(page: Path) -> None:
    targets = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert make_commands(page.read_text()) - targets == set()


@pytest.mark.parametrize("page", FOR_DEVELOPERS, ids=lambda page: page.name)
def test_paths_exist(page: Path) -> None:
    named = paths(page.read_text())
    assert named
    assert {path for path in named if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", WITHOUT_HISTORY, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_names_exist(page: Path) -> None:
    """Dotted names of modules, their attributes, and what a scope provides."""
    named = {
        match[1]
        for code in inline_code(page.read_text())
        if (match := PYTHON_NAME.match(code)) and match[1] not in NOT_PYTHON
    }
    assert {name for name in named if not resolves(name)} == set()


def test_the_page_for_authors_lists_the_primitives_of_every_base_class() -> None:
    page = (ROOT / "docs" / "write-a-backend.md").read_text()
    listed = {
        name: set(re.findall(r"`(\w+)`", primitives))
        for name, primitives in re.findall(r"^\| `(Base\w+)` \|([^|]*)\|$", page, re.MULTILINE)
    }
    assert listed == {
        name: set(getattr(goscope.backend, name).__abstractmethods__)
        for name in goscope.backend.__all__
        if name.startswith("Base") and name != "BaseAdapter"
    }


def resolves(name: str) -> bool:
    """Whether a module or an attribute has this name. ``gs`` is a scope."""
    if name.startswith("gs."):
        found: object = Scope(backend="memory")
        for part in name.split(".")[1:]:
            # From the class first: a property of a closed scope raises.
            found = getattr(type(found), part, None) or getattr(found, part, None)
        return found is not None
    try:
        # Before the attribute: importing `goscope.__main__` would run it.
        if find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass  # the parent is not a package, so this is an attribute
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


PAGE = """\
# The page

A [link](other.md#part) and [another](#the-page); `[not](one)`.

```python
x = 1
print(x)
```

<!-- output -->
```text
1
```

<!-- continues -->
```python
import asyncio
await asyncio.sleep(0)
assert x == 2
```

<!-- not run: it needs a payment service -->
```python
charge()
```

<!-- needs: json -->
```python
import json
```

<!-- file: shop.py -->
```python
import shop
```

```{eval-rst}
.. [a](b)
```

```sh
ls [a](b)
make nothing
```

Call `make docs` for `docs/cache.md`, `gs.lock`, `README.md` and `app.db`.

    make test

    tests/docs/  the tests
"""


def test_a_page_is_read_as_its_author_means_it() -> None:
    assert links(PAGE) == ["other.md#part", "#the-page"]
    assert anchors(PAGE) == {"the-page"}
    assert [(example.line, example.output) for example in examples(PAGE)] == [
        (5, "1\n"),
        (16, None),
        (28, None),
    ]
    assert [example.needs for example in examples(PAGE)] == [None, None, "json"]
    assert examples(PAGE)[1].code.startswith("x = 1\nprint(x)\nimport asyncio\n")
    assert make_commands(PAGE) == {"docs", "test"}
    assert paths(PAGE) == {"docs/cache.md", "README.md", "tests/docs/"}


@pytest.mark.parametrize("name", ["goscope.nothing", "goscope.nothing.at.all", "gs.cache.nothing"])
def test_a_name_that_does_not_exist_is_found(name: str) -> None:
    assert not resolves(name)


@pytest.mark.parametrize("name", ["goscope.backend.records", "goscope.Scope.lock", "gs.cache.get"])
def test_a_name_that_exists_resolves(name: str) -> None:
    assert resolves(name)


def test_a_failing_example_is_reported(tmp_path: Path) -> None:
    """Its traceback shows that top-level await works up to the line that fails."""
    first, second, _ = examples(PAGE)
    assert run(first, tmp_path).stdout == first.output
    failed = run(second, tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.endswith("AssertionError\n")


def test_an_example_that_is_not_run_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="line 2"):
        examples("<!-- not run: -->\n```python\nx\n```\n")
