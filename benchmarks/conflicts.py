# SPDX-License-Identifier: ZPL-2.1
"""How often puts conflict, many processes putting as fast as they can."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from ZODB.POSException import ConflictError

from .report import Figure, show
from .servers import Server, zeo
from .site import ARGUMENT, Site

#: Seconds for which every producer puts.
SECONDS = 5.0


def run() -> None:
    """Measure and print."""
    show("Conflicts of puts", [_figure(p, o) for p in (4, 16) for o in (1, 20)])


def _figure(producers: int, owners: int) -> Figure:
    with zeo() as server:
        db = server.open()
        site = Site(db)
        with site.request() as calls:
            calls.put("bench.noop", ARGUMENT)
        site.close()
        db.close()
        spawn = multiprocessing.get_context("spawn")
        results: Any = spawn.Queue()
        start = spawn.Barrier(producers)
        processes = [
            spawn.Process(target=_produce, args=(server, owners, start, results))
            for _ in range(producers)
        ]
        for process in processes:
            process.start()
        counts = [results.get() for _ in processes]
        for process in processes:
            process.join()
    puts, conflicts = (sum(c[i] for c in counts) for i in (0, 1))
    return Figure(
        f"{producers} producers, {owners} owner{'s' if owners > 1 else ''}",
        f"{conflicts} of {puts:,} puts",
        "0",
        f"{puts / SECONDS:,.0f} puts/s",
    )


def _produce(server: Server, owners: int, start: Any, results: Any) -> None:
    db = server.open()
    site = Site(db, owners)
    with site.request() as calls:
        calls.put("bench.noop", ARGUMENT)
    puts = conflicts = 0
    start.wait()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        try:
            with site.request() as calls:
                calls.put("bench.noop", ARGUMENT)
            puts += 1
        except ConflictError:
            conflicts += 1
    results.put((puts, conflicts))
    site.close()
    db.close()
