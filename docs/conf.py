"""Builds the site: MyST pages by Sphinx, with the docstrings of the public modules.

Every page also reads as plain Markdown; only `docs/reference/api/` needs Sphinx.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import SplitResult

import goscope
import goscope.backend._backend
from goscope.maintenance import Finding, OnProgress

# autodoc evaluates annotations, whose modules this one imports for type checkers only.
vars(goscope.backend._backend).update(
    SplitResult=SplitResult, Finding=Finding, OnProgress=OnProgress
)

project = "goscope"
author = "The goscope authors"
copyright = author
release = version = goscope.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "goscope"
html_static_path = ["_static"]
html_css_files = ["wide-tables.css"]
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
# A shell session and what a program prints are no language that can fail to parse.
highlight_language = "none"

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
add_module_names = False
# In docstrings, `Name` is code, as on the pages.
default_role = "code"

_INDENTED = re.compile(r"^(?: {4,}|\t)\S")
_LIST_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.) ")


def _mark_examples(_app: Any, *args: Any) -> None:
    """Docstrings indent their examples, as Markdown does: reStructuredText wants a `::` too."""
    lines: list[str] = args[-1]
    marked: list[str] = []
    in_example = False
    for number, line in enumerate(lines):
        is_indented = bool(_INDENTED.match(line))
        if is_indented and not in_example and number and not lines[number - 1].strip():
            before = next((it for it in reversed(marked) if it.strip()), "")
            if not _LIST_ITEM.match(before) and not before.endswith("::"):
                marked += ["::", ""]
            in_example = True
        elif line.strip() and not is_indented:
            in_example = False
        marked.append(line)
    lines[:] = marked


# What a scope hands out: nobody constructs it.
_HANDED_OUT = frozenset(
    {
        goscope.Cache,
        goscope.CachedFunction,
        goscope.CircuitBreaker,
        goscope.Collection,
        goscope.Idempotency,
        goscope.Inspection,
        goscope.Lock,
        goscope.Progress,
        goscope.TaskCheckpoint,
        goscope.TaskContext,
        goscope.Tasks,
    }
)


def _hide_constructor(
    _app: Any, what: str, _name: str, documented: Any, *_: Any
) -> tuple[str, str] | None:
    """Show neither how goscope builds what it hands out, nor a Protocol as something to call."""
    is_hidden = what == "class" and (
        documented in _HANDED_OUT or getattr(documented, "_is_protocol", False)
    )
    return ("", "") if is_hidden else None


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", _hide_constructor)
    app.connect("autodoc-process-docstring", _mark_examples)
