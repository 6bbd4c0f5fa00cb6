# SPDX-License-Identifier: ZPL-2.1
"""From the put's commit returning to the outcome seen by a poller, nothing else going on."""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ZODB
from ZODB.FileStorage import FileStorage

from wsgi_zasync.store.wakeup import signal_for

from .report import Figure, show
from .servers import zeo
from .site import ARGUMENT, Site
from .workers import in_process, workers

#: Calls, one after the other.
CALLS = 300


def run() -> None:
    """Measure and print."""
    figures = []
    for plugin in ("bench.noop", "bench.effect"):
        with zeo() as server:
            db = server.open()
            _prepare(db)
            with workers(server):
                figures.append(_figure(db, f"{plugin} over ZEO", plugin, "p50 ≤ 4.5 ms"))
            db.close()
        with _embedded() as db:
            figures.append(_figure(db, f"{plugin} embedded, FileStorage", plugin, "p50 ≤ 2 ms"))
    show("From commit to outcome", figures)


@contextlib.contextmanager
def _embedded() -> Iterator[Any]:
    with tempfile.TemporaryDirectory(prefix="zasync-bench-") as name:
        db = ZODB.DB(FileStorage(str(Path(name) / "Data.fs")))
        _prepare(db)
        worker = in_process(db)
        worker.start()
        yield db
        worker.stop(1.0)
        db.close()


def _prepare(db: Any) -> None:
    site = Site(db)
    with site.request() as calls:
        calls.root["bench_effects"] = {}
        calls.put("bench.noop", ARGUMENT)
    site.close()


def _figure(db: Any, what: str, plugin: str, goal: str) -> Figure:
    site = Site(db)
    signal = signal_for(db)
    samples = []
    for number in range(CALLS + 20):
        with site.request() as calls:
            call = calls.put(plugin, ARGUMENT)
        begun = time.perf_counter()
        with signal.watch(call.oid) as watch:
            while not _is_final(site, call.id):
                watch.wait(5.0)
        if number >= 20:
            samples.append(time.perf_counter() - begun)
        # Long enough for the worker to be idle again.
        time.sleep(0.01)
    site.close()
    samples.sort()
    p50, p99 = statistics.median(samples) * 1e3, samples[int(len(samples) * 0.99)] * 1e3
    return Figure(what, f"p50 {p50:.1f} ms", goal, f"p99 {p99:.1f} ms")


def _is_final(site: Site, call_id: str) -> bool:
    with site.request() as calls:
        return calls.get(call_id).is_final
