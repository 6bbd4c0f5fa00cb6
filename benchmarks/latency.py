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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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

#: Calls, one after the other, in each of so many rounds: a machine may be twice as fast a minute
#: later, and each round says what a plain transaction took meanwhile.
CALLS, ROUNDS = 100, 5

#: Seconds before each call and each plain transaction that is compared to it: long enough for the
#: worker to be idle again. A process that has just woken is slower than one that goes on.
PAUSE_SECONDS = 0.01

#: Plain transactions after the first, without a pause. The goals come of such ones: on the machine
#: for which they were set one took 1.62 ms over ZEO and 0.79 ms in a FileStorage, so that they
#: are 2.8 and 2.5 of them.
GOING_ON = 2


def run() -> None:
    """Measure and print."""
    found: dict[tuple[str, str, str], list[Samples]] = {}
    for _ in range(ROUNDS):
        for plugin in ("bench.noop", "bench.effect"):
            with zeo() as server:
                db = server.open()
                _prepare(db)
                with workers(server):
                    key = (plugin, "over ZEO", "p50 ≤ 4.5 ms")
                    found.setdefault(key, []).append(_samples(db, plugin))
                db.close()
            with _embedded() as db:
                key = (plugin, "embedded, FileStorage", "p50 ≤ 2 ms")
                found.setdefault(key, []).append(_samples(db, plugin))
    show("From commit to outcome", [_figure(*key, rounds) for key, rounds in found.items()])


@dataclass
class Samples:
    """Of one round, all in seconds."""

    calls: list[float] = field(default_factory=list)
    #: Plain transactions after another one, and after a pause.
    going_on: list[float] = field(default_factory=list)
    woken: list[float] = field(default_factory=list)


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


def _samples(db: Any, plugin: str) -> Samples:
    site, found = Site(db), Samples()
    for number in range(CALLS + 20):
        time.sleep(PAUSE_SECONDS)
        latency = _latency(site, db, plugin)
        time.sleep(PAUSE_SECONDS)
        first, *others = [_plain(site, number) for _ in range(1 + GOING_ON)]
        if number >= 20:
            found.calls.append(latency)
            found.woken.append(first)
            found.going_on += others
    site.close()
    return found


def _figure(plugin: str, where: str, goal: str, rounds: list[Samples]) -> Figure:
    every = sorted(latency for each in rounds for latency in each.calls)
    p50, p99 = statistics.median(every) * 1e3, every[int(len(every) * 0.99)] * 1e3
    absolutes = "; ".join(
        [
            f"p99 {p99:.1f} ms",
            f"{_multiple(rounds, lambda each: each.going_on)} one after the other",
            f"{_multiple(rounds, lambda each: each.woken)} after a pause",
            "each round, of plain ones of so many ms: "
            + ", ".join(
                f"{_p50(each.calls):.1f} of {_p50(each.going_on):.1f}"
                for each in sorted(rounds, key=lambda each: _p50(each.calls))
            ),
        ]
    )
    return Figure(f"{plugin} {where}", f"p50 {p50:.1f} ms", goal, absolutes)


def _p50(samples: list[float]) -> float:
    """In milliseconds."""
    return statistics.median(samples) * 1e3


def _multiple(rounds: list[Samples], plain: Callable[[Samples], list[float]]) -> str:
    each = statistics.median(_p50(found.calls) / _p50(plain(found)) for found in rounds)
    return f"{each:.1f} plain transactions"


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
