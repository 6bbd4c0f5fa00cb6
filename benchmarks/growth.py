# SPDX-License-Identifier: ZPL-2.1
"""What a call adds to the file from put to final and after packing, and what idling costs."""

from __future__ import annotations

import time
from collections.abc import Callable

from .report import Figure, show
from .servers import Server, zeo
from .site import ARGUMENT, Site
from .workers import processor_seconds, wait_until_final, workers

#: Calls, and seconds of watching a worker that has nothing to do.
CALLS, IDLE_SECONDS = 2_000, 30.0


def run() -> None:
    """Measure and print."""
    with zeo() as server:
        db = server.open()
        site = Site(db, owners=20)
        with site.request() as calls:
            calls.put("bench.noop", ARGUMENT)
        size = _size_of(server)
        with workers(server) as (pid,):
            wait_until_final(site, 1)
            before = size()
            for number in range(CALLS):
                with site.request() as calls:
                    calls.put("bench.noop", ARGUMENT)
                if number % 50 == 0:
                    time.sleep(0.02)
            wait_until_final(site, CALLS + 1)
            grown = (size() - before) / CALLS
            idle = _idle(size, pid)
        db.pack(time.time() + 1)
        packed = size() / (CALLS + 1)
        site.close()
        db.close()
    figures = [
        Figure("bytes from put to final, one put a transaction", f"{grown:,.0f}", "≤ 3,000"),
        Figure(
            "bytes a call, packed, the store's own structure included", f"{packed:,.0f}", "≤ 800"
        ),
        *idle,
    ]
    show("Growth, and an idle worker", figures)


def _size_of(server: Server) -> Callable[[], int]:
    return lambda: server.file.stat().st_size


def _idle(size: Callable[[], int], pid: int) -> list[Figure]:
    time.sleep(3.0)
    before, used, begun = size(), processor_seconds(pid), time.monotonic()
    time.sleep(IDLE_SECONDS)
    seconds = time.monotonic() - begun
    share = (processor_seconds(pid) - used) / seconds
    per_day = (size() - before) / seconds * 86_400 / 1e6
    return [
        Figure("processor share of an idle worker", f"{share:.2%}", "≤ 0.30%"),
        Figure("growth while idle, a day", f"{per_day:.1f} MB", "≤ 10 MB"),
    ]
