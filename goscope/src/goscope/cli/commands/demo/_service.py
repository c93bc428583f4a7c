"""The service process: an HTTP server for places and charges, with one outage."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from . import _records
from ._child import Job, run_child
from ._client import KEY_HEADER, WORKER_HEADER
from ._log import Call, Charge, Enrichment, Writer, read
from ._plan import Folder

OUTAGE_FAILURES: Final = 8
OUTAGE_S: Final = 1.5


class Outage:
    """A period in which every lookup of a place fails.

    It begins after ``after`` answers, and ends after both `OUTAGE_FAILURES` failures and
    `OUTAGE_S` seconds. A restarted service restores the count from ``calls``.
    """

    def __init__(
        self,
        after: int,
        calls: Sequence[Call] = (),
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._answers_left = after
        self._now = now
        self._failures = 0
        self._began: float | None = None
        self._over = False
        for call in calls:
            if isinstance(call, Enrichment):
                self._count(call)

    def fails(self) -> bool:
        """Count a lookup; True if it must fail."""
        failed = self._is_down()
        if failed:
            self._failures += 1
        else:
            self._answers_left -= 1
        return failed

    def _count(self, call: Enrichment) -> None:
        """Count a lookup of an earlier run. An answer after a failure means the outage is over."""
        if call.failed:
            self._failures += 1
        else:
            self._answers_left -= 1
            self._over = self._over or self._failures > 0

    def _is_down(self) -> bool:
        if self._over or self._answers_left > 0:
            return False
        now = self._now()
        if self._began is None:
            self._began = now
        self._over = self._failures >= OUTAGE_FAILURES and now - self._began >= OUTAGE_S
        return not self._over


class Service:
    """The request handlers. They log each call before they answer it."""

    def __init__(self, log: Writer, calls: Sequence[Call], outage: Outage) -> None:
        self._log = log
        self._outage = outage
        charges = (call.icao for call in calls if isinstance(call, Charge) and not call.repeated)
        self._receipts = {icao: number for number, icao in enumerate(charges, 1)}

    def application(self) -> web.Application:
        """The routes of the service."""
        application = web.Application()
        application.router.add_get("/country/{country}", self._country)
        application.router.add_post("/charge/{icao}", self._charge)
        return application

    async def _country(self, request: web.Request) -> web.Response:
        country = request.match_info["country"]
        subdivision = request.query["subdivision"]
        failed = self._outage.fails()
        by = request.headers[WORKER_HEADER]
        self._log.write(Enrichment(place=f"{country}/{subdivision}", by=by, failed=failed))
        if failed:
            return web.Response(status=503)
        return web.json_response({"country": country, "subdivision": subdivision, "fee": 5})

    async def _charge(self, request: web.Request) -> web.Response:
        """Charge once per idempotency key; a repeated request returns the same receipt."""
        icao = request.match_info["icao"]
        repeated = icao in self._receipts
        if request.headers[KEY_HEADER] != f"charge:{icao}":
            return web.Response(status=400)
        self._log.write(Charge(icao=icao, by=request.headers[WORKER_HEADER], repeated=repeated))
        receipt = self._receipts.setdefault(icao, len(self._receipts) + 1)
        return web.json_response({"icao": icao, "receipt": receipt})


async def serve(job: Job) -> None:
    """Serve until cancelled, on a free port that is printed to standard output."""
    path = Folder(job.folder).service_log
    calls = read(path)
    places = {record.place for record in _records.load(job.plan.records)}
    after = round(len(places) * job.plan.rng("outage").uniform(0.3, 0.5))
    with Writer(path) as log:
        service = Service(log, calls, Outage(after, calls))
        runner = web.AppRunner(service.application(), access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            print(runner.addresses[0][1], flush=True)
            sys.stdout.close()
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()


if __name__ == "__main__":
    # Ctrl-C reaches every process of the terminal, but the workers need the service until they end.
    run_child(serve, stop_on=[signal.SIGTERM], ignore=[signal.SIGINT])
