"""The examples, over HTTP with two workers where they share something."""

from __future__ import annotations

import asyncio
import os
import re
import runpy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from .libraries import require

require("fastapi", "fastmcp", "flask", "httpx", "langgraph.graph", "litestar", "uvicorn")

import httpx

from .serving import CLIENT, EXAMPLES, LIMIT_S, listen, served, wait_for, workers


def test_fastapi_with_two_workers(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics"
    metrics.mkdir()
    with workers("fastapi_app", tmp_path, PROMETHEUS_MULTIPROC_DIR=str(metrics)) as client:
        wait_for(client, "/health")
        with ThreadPoolExecutor(8) as pool:
            # A new connection for each request, so that both workers get some.
            prices = list(pool.map(partial(get, client), ["/prices/apple"] * 16))
            orders = list(pool.map(partial(order, client), map(str, range(16))))
            again = list(pool.map(partial(order, client), map(str, range(16))))
            one_key = list(pool.map(partial(order, client), ["same"] * 16))
            missing = client.post("/orders?article=tea", headers={"authorization": "ada"})
            for _ in range(100):  # the system chooses the worker of a connection
                if len(list(metrics.glob("counter_*.db"))) == 2:
                    break
                list(pool.map(partial(get, client), ["/prices/apple"] * 16))
        exposed = get(client, "/metrics").text
    assert {price.json()["computed_by"] for price in prices} != set()
    assert len({price.text for price in prices}) == 1, "computed once for both workers"
    assert sorted(it.json()["number"] for it in orders) == list(range(1, 17))
    assert [it.json() for it in again] == [it.json() for it in orders]
    assert all(it.headers["idempotency-replayed"] == "true" for it in again)
    assert {it.status_code for it in one_key} <= {201, 409}
    assert {it.text for it in one_key if it.status_code == 201} == {'{"number":17}'}
    assert missing.status_code == 400
    assert value(exposed, "goscope_lock_hold_seconds_count") == 17
    assert value(exposed, "goscope_cache_compute_seconds_count") == 1
    assert value(exposed, 'goscope_events_total{event="IdempotentExecuted"') == 17
    assert value(exposed, 'goscope_events_total{event="IdempotentReplayed"') >= 16
    assert len(list(metrics.glob("counter_*.db"))) == 2, "one of the workers got no request"


def get(client: httpx.Client, path: str) -> httpx.Response:
    return client.get(path, headers={"connection": "close"})


def order(client: httpx.Client, key: str) -> httpx.Response:
    headers = {"authorization": "ada", "idempotency-key": f'"{key}"', "connection": "close"}
    return client.post("/orders?article=tea", headers=headers)


def value(exposed: str, name: str) -> float:
    """The sum of the samples whose line begins with the name."""
    found = re.findall(rf"^{re.escape(name)}.* (\S+)$", exposed, re.MULTILINE)
    return sum(map(float, found))


def test_starlette_with_two_workers(tmp_path: Path) -> None:
    with workers("starlette_app", tmp_path) as client:
        wait_for(client, "/health")
        assert get(client, "/weather/rome").json() == {"weather": "rome: sunny"}
        statuses = [get(client, "/weather/atlantis").status_code for _ in range(8)]
        refused = get(client, "/weather/atlantis")
        assert get(client, "/weather/rome").status_code == 200
    assert statuses == [502, 502, 502, 503, 503, 503, 503, 503]
    assert 1 <= int(refused.headers["retry-after"]) <= 30


def test_litestar_with_two_workers(tmp_path: Path) -> None:
    with workers("litestar_app", tmp_path) as client:
        wait_for(client, "/health")
        answers = [get(client, "/") for _ in range(24)]
    visits = [it.json()["visits"] for it in answers if it.status_code == 200]
    assert visits == list(range(1, 21))
    assert [it.status_code for it in answers[20:]] == [429] * 4


def test_flask_with_threads(tmp_path: Path) -> None:
    program = (
        "from wsgiref.simple_server import WSGIRequestHandler, WSGIServer\n"
        "import socket, socketserver, sys\n"
        "from flask_app import app\n"
        "class Handler(WSGIRequestHandler):\n"
        "    def log_message(self, *args): pass\n"
        "class Server(socketserver.ThreadingMixIn, WSGIServer):\n"
        "    daemon_threads = True\n"
        "    def server_bind(self):\n"
        "        self.socket.close(); self.socket = socket.socket(fileno=int(sys.argv[1]))\n"
        "        self.server_name, self.server_port = self.socket.getsockname()\n"
        "        self.setup_environ()\n"
        "server = Server(('127.0.0.1', 0), Handler)\n"
        "server.set_app(app)\n"
        "server.serve_forever()\n"
    )
    with listen() as listening:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(listening.fileno())],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(EXAMPLES)},
            pass_fds=[listening.fileno()],
        )
        try:
            base_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            with httpx.Client(base_url=base_url, **CLIENT) as client:
                wait_for(client, "/square/2")
                assert client.get("/square/7").json() == {"square": 49}
                with ThreadPoolExecutor(8) as pool:
                    counts = list(pool.map(client.post, ["/count"] * 16))
        finally:
            process.terminate()
            process.wait(timeout=LIMIT_S)
    assert sorted(it.json()["count"] for it in counts) == list(range(1, 17))


def test_fastmcp_keeps_results_of_tools_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fastmcp import Client  # takes a second

    monkeypatch.chdir(tmp_path)

    async def ask() -> str:
        server = runpy.run_path(str(EXAMPLES / "fastmcp_server.py"))["mcp"]
        async with served(server.http_app()) as http, Client(f"{http.base_url}/mcp") as client:
            return str((await client.call_tool("letters", {"word": "tea"})).data)

    for _ in range(2):
        assert asyncio.run(ask()) == "tea has 3 letters (call 1 of this process)"


def test_langgraph_resumes_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = str(EXAMPLES / "langgraph_run.py")
    first = subprocess.run(
        [sys.executable, example], cwd=tmp_path, capture_output=True, timeout=LIMIT_S, check=True
    )
    assert first.stdout.startswith(b"checking the amount\nrefund 1250 cents?")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [example, "yes"])
    runpy.run_path(example)
    assert capsys.readouterr().out == "approved\n"
