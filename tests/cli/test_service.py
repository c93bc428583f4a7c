"""The service of the demo: its outage, its log, and repeated charges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp.test_utils import TestClient, TestServer

from goscope.cli.commands.demo import _log
from goscope.cli.commands.demo._client import ServiceClient, ServiceFailed
from goscope.cli.commands.demo._log import Charge, Enrichment
from goscope.cli.commands.demo._records import Record
from goscope.cli.commands.demo._service import OUTAGE_FAILURES, OUTAGE_S, Outage, Service

FRANKFURT = Record("EDDF", "Frankfurt", "DE", "Hesse")


class Now:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def test_an_outage_begins_after_a_number_of_answers() -> None:
    outage = Outage(3, now=Now())
    assert [outage.fails() for _ in range(5)] == [False, False, False, True, True]


def test_an_outage_ends_after_enough_failures_and_enough_time() -> None:
    now = Now()
    outage = Outage(0, now=now)
    assert all(outage.fails() for _ in range(OUTAGE_FAILURES + 5)), "the duration has not passed"
    now.seconds += OUTAGE_S
    assert not outage.fails()
    assert not outage.fails()


def test_an_outage_does_not_end_before_enough_failures() -> None:
    now = Now()
    outage = Outage(0, now=now)
    assert outage.fails()
    now.seconds += 10 * OUTAGE_S
    assert [outage.fails() for _ in range(OUTAGE_FAILURES)] == [True] * (OUTAGE_FAILURES - 1) + [
        False
    ]


def enrichment(*, failed: bool) -> Enrichment:
    return Enrichment("DE/Hesse", "1.1", failed)


def test_a_restarted_service_restores_its_outage_from_the_log() -> None:
    answered, failed = enrichment(failed=False), enrichment(failed=True)
    assert not Outage(2, [answered], now=Now()).fails()
    assert Outage(1, [answered], now=Now()).fails()
    assert Outage(1, [answered, failed], now=Now()).fails()
    assert not Outage(1, [answered, failed, answered], now=Now()).fails()


class Running:
    """A service on a free port, with its log."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url

    @property
    def calls(self) -> list[_log.Call]:
        return _log.read(self.path)


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    path = tmp_path / "service.jsonl"
    earlier = [Charge("KJFK", "1.1", repeated=False)]
    with _log.Writer(path) as log:
        service = Service(log, earlier, Outage(1, now=Now()))
        async with TestClient(TestServer(service.application())) as client:
            yield Running(path, str(client.make_url("/")))


@pytest.mark.asyncio
async def test_a_repeated_charge_returns_the_first_receipt(running: Running) -> None:
    async with ServiceClient(running.url, "1.1") as client:
        first = await client.charge(FRANKFURT)
        again = await client.charge(FRANKFURT)
    assert first == again
    assert running.calls == [
        Charge("EDDF", "1.1", repeated=False),
        Charge("EDDF", "1.1", repeated=True),
    ]


@pytest.mark.asyncio
async def test_a_charge_of_an_earlier_run_is_recognized(running: Running) -> None:
    async with ServiceClient(running.url, "2.1") as client:
        await client.charge(FRANKFURT._replace(icao="KJFK"))
    assert running.calls == [Charge("KJFK", "2.1", repeated=True)]


@pytest.mark.asyncio
async def test_answers_and_failures_are_logged(running: Running) -> None:
    frankfurt = FRANKFURT._replace(subdivision="Hesse & more/äöü")
    async with ServiceClient(running.url, "1.1") as client:
        place = await client.place(frankfurt)
        with pytest.raises(ServiceFailed):
            await client.place(frankfurt)
    assert place.subdivision == "Hesse & more/äöü"
    assert running.calls == [
        Enrichment(frankfurt.place, "1.1", failed=False),
        Enrichment(frankfurt.place, "1.1", failed=True),
    ]
