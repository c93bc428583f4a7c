"""The documentation's links lead somewhere and its Python examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .markdown import Example, anchors, examples, links

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("run_example.py")
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("goscope*/*.md"), *ROOT.glob("docs/**/*.md")])

EXAMPLES = [
    pytest.param(example, id=f"{page.relative_to(ROOT)}:{example.line}")
    for page in PAGES
    for example in examples(page.read_text())
]


def run(example: Example, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", RUNNER],
        input=example.code,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Inside this repository: addresses elsewhere are not asked."""
    dead: list[str] = []
    for link in links(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_run(example: Example, tmp_path: Path) -> None:
    done = run(example, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


PAGE = """\
# The page

A [link](other.md#part) and [another](#the-page); `[not](one)`.

```python
x = 1
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

```sh
ls [a](b)
```
"""


def test_pages_are_read_as_meant() -> None:
    assert links(PAGE) == ["other.md#part", "#the-page"]
    assert anchors(PAGE) == {"the-page"}
    assert [example.line for example in examples(PAGE)] == [5, 10]
    assert examples(PAGE)[1].code.startswith("x = 1\nimport asyncio\n")


def test_an_example_that_fails_is_noticed(tmp_path: Path) -> None:
    """Its traceback shows that top-level await works up to the line that is wrong."""
    first, second = examples(PAGE)
    assert run(first, tmp_path).returncode == 0
    failed = run(second, tmp_path)
    assert failed.returncode == 1
    assert failed.stderr.endswith("AssertionError\n")


def test_an_opt_out_needs_a_reason() -> None:
    with pytest.raises(ValueError, match="line 2"):
        examples("<!-- not run: -->\n```python\nx\n```\n")
