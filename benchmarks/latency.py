# SPDX-License-Identifier: ZPL-2.1
"""From the put's commit returning to the outcome seen by a poller, nothing else going on.

The same is shown as a multiple of a plain transaction, one that rewrites a small object, by the
same process on the same storage and in turn with the calls: so machines can be compared, and a
machine that slows down meanwhile does not count.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ZODB
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage

from wsgi_zasync.store.wakeup import signal_for

from .report import Figure, show
from .servers import zeo
from .site import ARGUMENT, Site
from .workers import in_process, workers

#: Calls, one after the other.
CALLS = 300

#: Seconds before each call and each plain transaction that is compared to it: long enough for the
#: worker to be idle again. A process that has just woken is slower than one that goes on.
PAUSE_SECONDS = 0.01

#: Plain transactions after the first, without a pause. The goals come of such ones: on the machine
#: for which they were set one took 1.62 ms over ZEO and 0.79 ms in a FileStorage, so that they
#: are 2.8 and 2.5 of them.
GOING_ON = 2


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
        calls.root["page"] = PersistentMapping()
        calls.put("bench.noop", ARGUMENT)
    site.close()


def _figure(db: Any, what: str, plugin: str, goal: str) -> Figure:
    site = Site(db)
    samples, going_on, woken = [], [], []
    for number in range(CALLS + 20):
        time.sleep(PAUSE_SECONDS)
        latency = _latency(site, db, plugin)
        time.sleep(PAUSE_SECONDS)
        first, *others = [_plain(site, number) for _ in range(1 + GOING_ON)]
        if number >= 20:
            samples.append(latency)
            woken.append(first)
            going_on += others
    site.close()
    samples.sort()
    p50, p99 = statistics.median(samples) * 1e3, samples[int(len(samples) * 0.99)] * 1e3
    absolutes = (
        f"p99 {p99:.1f} ms; {_multiple(p50, going_on)} one after the other, "
        f"{_multiple(p50, woken)} after a pause"
    )
    return Figure(what, f"p50 {p50:.1f} ms", goal, absolutes)


def _multiple(p50: float, plain: list[float]) -> str:
    each = statistics.median(plain) * 1e3
    return f"{p50 / each:.1f} plain transactions of {each:.1f} ms"


def _latency(site: Site, db: Any, plugin: str) -> float:
    """From the commit of a put to the outcome, in seconds."""
    with site.request() as calls:
        call = calls.put(plugin, ARGUMENT)
    begun = time.perf_counter()
    with signal_for(db).watch(call.oid) as watch:
        while not _is_final(site, call.id):
            watch.wait(5.0)
    return time.perf_counter() - begun


def _plain(site: Site, number: int) -> float:
    """A transaction that rewrites a small object, in seconds."""
    begun = time.perf_counter()
    with site.request() as calls:
        calls.root["page"]["hits"] = number
    return time.perf_counter() - begun


def _is_final(site: Site, call_id: str) -> bool:
    with site.request() as calls:
        return calls.get(call_id).is_final
