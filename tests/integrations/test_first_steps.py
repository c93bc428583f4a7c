"""The page that leads from an empty environment to a FastAPI application does what it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.packaging import guides
from tests.packaging.distributions import ROOT

from .libraries import require

require("fastapi", "httpx", "uvicorn")

import httpx

from .serving import wait_for, workers

PAGE = "integrations/fastapi.md"


def test_the_application_answers_as_the_page_shows(tmp_path: Path) -> None:
    page = (ROOT / "docs" / PAGE).read_text()
    shown = re.findall(r"^    \$ curl -s (.*)\n    (.*)$", page, re.MULTILINE)
    assert len(shown) >= 7
    guides.follow(PAGE, tmp_path)
    with workers("app", tmp_path, folder_of_module=tmp_path) as client:
        wait_for(client, "/health")
        answers = [curl(client, arguments) for arguments, _ in shown]
    assert answers == [output for _, output in shown]
    assert (tmp_path / "server.log").read_text().count("asking the slow service") == 1


def curl(client: httpx.Client, arguments: str) -> str:
    """Send the request of a command line of curl."""
    words = iter(shlex.split(arguments))
    method, headers, url = "GET", {"connection": "close"}, ""
    for word in words:
        if word == "-X":
            method = next(words)
        elif word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        else:
            url = word.removeprefix("http://127.0.0.1:8000")
    return client.request(method, url, headers=headers).text
