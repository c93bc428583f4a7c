"""``goscope web`` over real HTTP: the page, its changes, and who is refused."""

from __future__ import annotations

import asyncio
import base64
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from html import unescape
from typing import NamedTuple
from urllib.parse import urlencode

import pytest
import uvicorn

from goscope import Scope
from goscope.cli.commands.web._security import Security
from goscope.cli.commands.web._server import application

from .operator import Operator, cached, charged, half_done, locked, opened_circuit

TOKEN = "a-long-random-password"


class Answer(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Mapping[str, str]
    text: str


class Server:
    """A running ``goscope web``."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, **headers: str) -> Answer:
        return self._ask("GET", path, None, headers)

    def post(self, path: str, form: Mapping[str, str], **headers: str) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded", **headers}
        return self._ask("POST", path, urlencode(form), headers)

    def _ask(self, method: str, path: str, body: str | None, headers: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.headers), response.read().decode())
        connection.close()
        return answer


@contextmanager
def served(
    operator: Operator, *, allow_changes: bool = False, token: str | None = None
) -> Generator[Server]:
    """The application in a thread of this process."""
    app = application(operator.url, Security("127.0.0.1", token), allow_changes=allow_changes)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
        thread.start()
        try:
            yield Server(listening.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def started(*arguments: str, **environment: str) -> Generator[Server]:
    """The command, ended with Ctrl-C."""
    command = [sys.executable, "-m", "goscope", "web", "--port", "0", *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = re.search(r":(\d+)/", line)
            assert port, line
            yield Server(int(port[1]))
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


def links(page: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'href="(/confirm/[^"]*)"', page)]


def hidden(page: str) -> dict[str, str]:
    """The form of a question."""
    fields = re.findall(r'name=(\w+) value="([^"]*)"', page)
    return {name: unescape(value) for name, value in fields}


def test_the_page_shows_the_store_and_refreshes(operator: Operator) -> None:
    operator.prepare(cached, half_done, opened_circuit, locked)
    with served(operator) as server:
        page = server.get("/")
        assert page.status == 200
        for text in ("door", "etl:1", "pay", "3 entries", "read-only", "half done", "http-equiv"):
            assert text in page.text
        assert links(page.text) == []
        assert "<script" not in page.text
        assert page.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert server.get("/style.css").headers["content-type"].startswith("text/css")
        assert server.get("/nothing").status == 404


def test_what_a_key_contains_is_text(operator: Operator) -> None:
    async def inject(gs: object) -> None:
        async with operator.scope() as scope:
            await scope.lock("<script>alert(1)</script>\"'", ttl="1h").acquire()

    operator.prepare(inject)
    with served(operator, allow_changes=True) as server:
        page = server.get("/").text
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        (link,) = links(page)
        assert "<script" not in server.get(link).text


def test_changes_are_made_after_a_question(operator: Operator) -> None:
    operator.prepare(half_done, opened_circuit, locked)
    with served(operator, allow_changes=True) as server:
        origin = f"http://127.0.0.1:{server.port}"
        page = server.get("/").text
        for name in ("release", "delete", "close"):
            (link,) = [it for it in links(page) if it.startswith(f"/confirm/{name}?")]
            question = server.get(link).text
            answer = server.post(f"/do/{name}", hidden(question), Origin=origin)
            assert (answer.status, answer.headers["location"]) == (303, f"/?done={name}")
        assert "The circuit is closed." in server.get("/?done=close").text
    assert operator("locks", "list").out == ""
    assert operator("tasks", "list").out == ""
    assert operator("circuits", "list", "--json").records[0]["state"]["state"] == "closed"


def test_a_change_of_what_has_moved_on_is_refused(operator: Operator) -> None:
    operator.prepare(locked)
    with served(operator, allow_changes=True) as server:
        (link,) = links(server.get("/").text)
        form = hidden(server.get(link).text)
        assert operator("locks", "release", "door", "--yes").code == 0
        operator.prepare(locked)
        answer = server.post("/do/release", form)
        assert answer.status == 409
        assert "now has token 2" in answer.text
    assert operator("locks", "list").out


def test_a_form_of_another_site_is_refused(operator: Operator) -> None:
    operator.prepare(locked)
    with served(operator, allow_changes=True) as server:
        (link,) = links(server.get("/").text)
        form = hidden(server.get(link).text)
        for answer in (
            server.post("/do/release", {**form, "token": "guessed"}),
            server.post("/do/release", {"shown": form["shown"]}),
            server.post("/do/release", form, Origin="http://evil.example"),
            server.post("/do/release", form, Origin="null"),
            server.post("/do/release", form, Sec_Fetch_Site="cross-site"),
            server.post("/do/release", form, Host="evil.example"),
            server.post("/do/release", form | {"shown": "x" * 70_000}),
        ):
            assert answer.status == 403
        assert server.post("/do/nothing", form).status == 404
        assert server.post("/do/release", form | {"shown": "{}"}).status == 404
        assert server.get("/do/release").status == 405
    assert operator("locks", "list").out


def test_a_page_whose_name_leads_here_is_refused(operator: Operator) -> None:
    operator.prepare(locked)
    with served(operator) as server:
        refused = server.get("/", Host="evil.example")
        assert refused.status == 403
        assert "door" not in refused.text
        assert server.get("/", Host="evil.example:8377").status == 403
        assert server.get("/", Host=f"localhost:{server.port}").status == 200


def test_a_read_only_server_changes_nothing(operator: Operator) -> None:
    operator.prepare(locked)
    with served(operator, allow_changes=True) as server:
        (link,) = links(server.get("/").text)
        form = hidden(server.get(link).text)
    with served(operator) as server:
        assert server.get(link).status == 404
        assert server.post("/do/release", form).status == 403
    assert operator("locks", "list").out


def test_a_token_is_asked_for(operator: Operator) -> None:
    operator.prepare(locked)

    def login(password: str) -> str:
        return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()

    with started("--host", "0.0.0.0", GOSCOPE_WEB_TOKEN=TOKEN) as server:
        for headers in ({}, {"Authorization": login("wrong")}, {"Authorization": "Basic !"}):
            refused = server.get("/", **headers)
            assert refused.status == 401
            assert refused.headers["www-authenticate"].startswith("Basic")
            assert "door" not in refused.text
        assert "door" in server.get("/", Authorization=login(TOKEN)).text


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_another_address_needs_a_token(
    operator: Operator, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.prepare()
    ran = operator("web", "--host", host)
    assert ran.code == 2
    assert "GOSCOPE_WEB_TOKEN" in ran.err
    monkeypatch.setenv("GOSCOPE_WEB_TOKEN", "short")
    ran = operator("web", "--host", host)
    assert ran.code == 2
    assert "at least 16 characters" in ran.err


def test_a_missing_store_is_not_served(operator: Operator) -> None:
    ran = operator("web", "--port", "0")
    assert ran.code == 2
    assert "there is no goscope store" in ran.err
    assert not operator.path.exists()


async def collected(gs: Scope) -> None:
    """An entry of a collection, with a key that the cache has, too."""
    await gs.store("sessions").set("user:1", {"id": 7}, "1h")


async def in_flight(gs: Scope) -> None:
    """A call whose process left it behind."""
    assert gs.persistence.lease is not None
    assert await gs.persistence.lease.acquire("idempotency:charge:2", "1h", "worker-9")


def test_entries_and_collections_are_listed(operator: Operator) -> None:
    operator.prepare(cached, collected)
    with served(operator) as server:
        page = server.get("/cache").text
        for text in ("user:1", "user:2", "settings", "Collections (1)", "users", "read-only"):
            assert text in page
        assert "http-equiv" not in page, "it would empty the field of the pattern"
        assert links(page) == []
        found = server.get("/cache?pattern=user:*").text
        assert "Entries (2)" in found
        assert 'value="user:*"' in found
        (link,) = re.findall(r'href="(/cache\?[^"]*)"', page)
        assert "Entries (1)" in server.get(unescape(link)).text
        assert "There are no such entries" in server.get("/cache?pattern=x").text
        assert server.get("/cache?collection=a+b").status == 409
        assert "<b>" not in server.get("/cache?pattern=%22%3E%3Cb%3E").text


def test_a_listing_ends_after_the_first_records(operator: Operator) -> None:
    async def fill(gs: Scope) -> None:
        await gs.cache.set_many({f"key:{number:03}": 1 for number in range(150)})

    operator.prepare(fill)
    with served(operator) as server:
        page = server.get("/cache").text
    assert "Entries (the first 100)" in page
    assert page.count("key:") == 100


def test_an_entry_is_deleted_after_a_question(operator: Operator) -> None:
    operator.prepare(cached, collected)
    with served(operator, allow_changes=True) as server:
        for page, back in (
            ("/cache?pattern=user:1", "/cache?done=delete-entry"),
            ("/cache?collection=sessions", "/cache?collection=sessions&done=delete-entry"),
        ):
            (link,) = links(server.get(page).text)
            question = server.get(link).text
            assert "Delete entry &#x27;user:1&#x27;" in question
            form = hidden(question)
            assert server.post("/do/delete-entry", form | {"token": "guessed"}).status == 403
            answer = server.post("/do/delete-entry", form)
            assert (answer.status, answer.headers["location"]) == (303, back)
            assert "The entry was deleted." in server.get(back).text
            assert server.get(link).status == 409
            assert server.post("/do/delete-entry", form).status == 409
    assert operator("cache", "get", "user:1").code == 3
    assert operator("cache", "get", "user:2").code == 0
    assert operator("cache", "collections").out == ""


def test_an_entry_that_was_written_since_is_kept(operator: Operator) -> None:
    operator.prepare(cached)
    with served(operator, allow_changes=True) as server:
        (link,) = links(server.get("/cache?pattern=settings").text)
        form = hidden(server.get(link).text)
        assert operator("cache", "set", "settings", "[2]", "--yes").code == 0
        answer = server.post("/do/delete-entry", form)
        assert answer.status == 409
        assert "has changed since it was shown" in answer.text
    assert operator("cache", "get", "settings").out == "[2]\n"


def test_calls_are_listed_and_forgotten(operator: Operator) -> None:
    operator.prepare(charged, in_flight)
    with served(operator) as server:
        page = server.get("/calls").text
        assert "Calls (2)" in page
        assert page.index("charge:2") < page.index("charge:1"), "those in flight come first"
        assert "worker-9" in page
        assert links(page) == []
    with served(operator, allow_changes=True) as server:
        release, forget = links(server.get("/calls").text)
        form = hidden(server.get(forget).text)
        changed = {**form, "shown": form["shown"].replace('"size_bytes":13', '"size_bytes":14')}
        assert changed != form
        assert server.post("/do/forget", changed).status == 409
        answer = server.post("/do/forget", form)
        assert (answer.status, answer.headers["location"]) == (303, "/calls?done=forget")
        assert server.post("/do/release", hidden(server.get(release).text)).status == 303
        assert "There are none" in server.get("/calls").text
    assert operator("idempotency", "list").out == ""
