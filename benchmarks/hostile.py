# SPDX-License-Identifier: ZPL-2.1
"""What callbacks that use up their budget cost the calls beside them.

Calls come at a steady rate. In one run each tenth is followed by a call whose callback
computes until its budget is gone, in the other by one whose callback is as short as all
others. What counts is how long the good calls take, from their commit until their outcome, with
their callback done, is seen by another process.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from wsgi_zasync.store.wakeup import signal_for

from .report import Figure, show
from .servers import zeo
from .site import ARGUMENT, Site
from .workers import workers

#: Good calls, how many of them come before a hostile one, and how many calls a second.
CALLS, EACH, RATE = 1_000, 10, 50

#: What uses up a budget in several ways: steps, long integers, long texts, sorting.
HOSTILE = (
    "python: [x * y for x in range(1000) for y in range(1000)]",
    "python: [(10 ** 600) * (10 ** 600) for x in range(100000)]",
    "python: [('ab' * 1000).replace('a', 'bb') for x in range(100000)]",
    "python: [sorted(range(1000)) for x in range(1000)]",
)
GOOD = "python: result + 1"


def run() -> None:
    """Measure and print."""
    quiet = [_latencies(None) for _ in range(2)]
    hostile = [_latencies(HOSTILE) for _ in range(2)]
    quiet_p50, quiet_p99 = _of_both(quiet)
    p50, p99 = _of_both(hostile)
    show(
        f"{CALLS // EACH} hostile callbacks among {CALLS:,} good ones, {RATE} calls a second",
        [
            Figure(
                "the good calls' p99, with against without",
                f"{p99 / quiet_p99:.2f} ×",
                "≤ 1.5",
                f"p50 {p50 * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms; "
                f"without p50 {quiet_p50 * 1e3:.1f} ms, p99 {quiet_p99 * 1e3:.1f} ms",
            )
        ],
    )


def _of_both(runs: list[list[float]]) -> tuple[float, float]:
    """Median and 99th percentile, each the lower one of the runs: the machine is noisy."""
    return (
        min(samples[len(samples) // 2] for samples in runs),
        min(samples[int(len(samples) * 0.99)] for samples in runs),
    )


def _latencies(hostile: tuple[str, ...] | None) -> list[float]:
    """Seconds of each good call, in order of size."""
    with zeo() as server:
        db = server.open()
        site = Site(db, owners=20)
        seen = _Seen(db)
        with workers(server, provoked="bench.hostile"):
            begun: dict[bytes, float] = {}
            start = time.perf_counter()
            for number in range(CALLS):
                seen.wait_until(start + number / RATE)
                begun |= _put(site, "bench.noop", GOOD)
                if number % EACH == 0:
                    texts = hostile or (GOOD,)
                    _put(site, "bench.hostile", texts[number // EACH % len(texts)])
            seen.wait_for(begun)
        site.close()
        db.close()
    return sorted(seen.at[oid] - begun[oid] for oid in begun)


def _put(site: Site, plugin: str, text: str) -> dict[bytes, float]:
    with site.request() as calls:
        call = calls.put(plugin, ARGUMENT)
        call.on_success(text)
    assert call.oid is not None
    return {call.oid: time.perf_counter()}


class _Seen:
    """When this process was told that an object was written: a record, by its outcome."""

    def __init__(self, db: Any) -> None:
        self.at: dict[bytes, float] = {}
        self._changed = threading.Condition()
        signal_for(db).subscribe(self._told)

    def _told(self, tid: bytes | None, oids: frozenset[bytes]) -> None:
        if tid is None:
            return  # our own commits, which are puts
        now = time.perf_counter()
        with self._changed:
            self.at |= {oid: now for oid in oids if oid not in self.at}
            self._changed.notify_all()

    def wait_until(self, moment: float) -> None:
        """Let time pass."""
        time.sleep(max(0.0, moment - time.perf_counter()))

    def wait_for(self, oids: Any) -> None:
        """Return when all of them were written."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.at.keys() >= set(oids), timeout=300):
                raise TimeoutError("some calls did not end")
