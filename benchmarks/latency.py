# SPDX-License-Identifier: ZPL-2.1
"""From the put's commit returning to the outcome seen by a poller, nothing else going on.

The same is shown as a multiple of a plain transaction, one that rewrites a small object, by the
same process on the same storage and in turn with the calls: so machines can be compared, and a
machine that slows down meanwhile does not count. Embedded, it is also shown as a multiple of a bare
exchange between two connections.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.FileStorage import FileStorage

from wsgi_zasync.store.wakeup import signal_for

from .exchange import Exchange, exchange
from .report import Figure, show
from .servers import zeo
from .site import ARGUMENT, Site
from .workers import in_process, workers

#: Pauses, with calls after each, in each of so many rounds: a machine may be twice as fast a minute
#: later, and each round says what a plain transaction took meanwhile.
PAUSES, ROUNDS = 40, 5

#: Seconds before each call and what is compared to it: long enough for the processors to rest. What
#: has just woken is slower than what goes on, with us and with everything else.
PAUSE_SECONDS = 0.01

#: How many follow one after the other, without a pause: the worker is idle then too. The goals
#: come of such ones, as do the figures that are told of other queues: on the machine for which they
#: were set a plain transaction took 1.62 ms over ZEO and 0.79 ms in a FileStorage, so that they are
#: 2.8 and 2.5 of them.
GOING_ON = 20


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
                with exchange(db) as bare:
                    found.setdefault(key, []).append(_samples(db, plugin, bare))
    show("From commit to outcome", [_figure(*key, rounds) for key, rounds in found.items()])


@dataclass
class Paced:
    """Samples of one thing, in seconds."""

    #: After a pause, and one after the other.
    woken: list[float] = field(default_factory=list)
    going_on: list[float] = field(default_factory=list)

    def measure(self, once: Callable[[], float]) -> None:
        """Once after a pause, and then one after the other."""
        time.sleep(PAUSE_SECONDS)
        self.woken.append(once())
        self.going_on += [once() for _ in range(GOING_ON)]


@dataclass
class Samples:
    """Of one round."""

    calls: Paced = field(default_factory=Paced)
    plain: Paced = field(default_factory=Paced)
    exchanges: Paced = field(default_factory=Paced)


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
        calls.root["bench_effects"] = OOBTree()
        calls.root["page"] = PersistentMapping()
        calls.put("bench.noop", ARGUMENT)
    site.close()


def _has_effect(site: Site, call_id: str) -> bool:
    with site.request() as calls:
        return call_id in calls.root["bench_effects"]


def _samples(db: Any, plugin: str, bare: Exchange | None = None) -> Samples:
    site = Site(db)
    for count in (3, PAUSES):
        found = Samples()  # what is measured while everything is still new does not count
        for number in range(count):
            found.calls.measure(lambda: _latency(site, db, plugin))
            found.plain.measure(partial(_plain, site, number))
            if bare is not None:
                found.exchanges.measure(bare.seconds)
    site.close()
    return found


def _figure(plugin: str, where: str, goal: str, rounds: list[Samples]) -> Figure:
    woken = sorted(latency for each in rounds for latency in each.calls.woken)
    going_on = [latency for each in rounds for latency in each.calls.going_on]
    absolutes = [
        f"p99 {woken[int(len(woken) * 0.99)] * 1e3:.1f} ms",
        _multiple(rounds, "plain transactions", lambda each: each.plain),
    ]
    if rounds[0].exchanges.woken:
        absolutes.append(_multiple(rounds, "bare exchanges", lambda each: each.exchanges))
    absolutes.append(
        "each round, of plain ones of so many ms: "
        + ", ".join(
            f"{_p50(each.calls.woken):.1f} of {_p50(each.plain.going_on):.1f}"
            for each in sorted(rounds, key=lambda each: _p50(each.calls.woken))
        )
    )
    value = f"p50 {_p50(woken):.1f} ms, {_p50(going_on):.1f} one after the other"
    return Figure(f"{plugin} {where}", value, goal, "; ".join(absolutes))


def _p50(samples: list[float]) -> float:
    """In milliseconds."""
    return statistics.median(samples) * 1e3


def _multiple(rounds: list[Samples], name: str, other: Callable[[Samples], Paced]) -> str:
    """As multiples of something else, in the median of the rounds."""

    def times(samples: Callable[[Paced], list[float]]) -> float:
        return statistics.median(
            _p50(samples(each.calls)) / _p50(samples(other(each))) for each in rounds
        )

    woken, going_on = times(lambda paced: paced.woken), times(lambda paced: paced.going_on)
    return f"{woken:.1f} and {going_on:.1f} {name}"


def _latency(site: Site, db: Any, plugin: str) -> float:
    """From the commit of a put to the outcome, in seconds."""
    with site.request() as calls:
        call = calls.put(plugin, ARGUMENT)
    begun = time.perf_counter()
    with signal_for(db).watch(call.oid) as watch:
        while not _is_final(site, call.id):
            watch.wait(5.0)
    took = time.perf_counter() - begun
    assert plugin != "bench.effect" or _has_effect(site, call.id)
    return took


def _plain(site: Site, number: int) -> float:
    """A transaction that rewrites a small object, in seconds."""
    begun = time.perf_counter()
    with site.request() as calls:
        calls.root["page"]["hits"] = number
    return time.perf_counter() - begun


def _is_final(site: Site, call_id: str) -> bool:
    with site.request() as calls:
        return calls.get(call_id).is_final
