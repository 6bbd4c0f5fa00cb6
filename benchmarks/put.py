# SPDX-License-Identifier: ZPL-2.1
"""What a put costs the request: in a transaction that writes anyway, and at depth."""

from __future__ import annotations

import statistics
import time
from typing import Any

from persistent.mapping import PersistentMapping

from .report import Figure, micros, show
from .servers import zeo
from .site import ARGUMENT, Site

#: Pairs of transactions, one with a put and one without.
PAIRS = 400


def run() -> None:
    """Measure and print."""
    figures = []
    with zeo() as server:
        db = server.open()
        figures.append(_one_more_call(db, "over ZEO", "≤ 1.35"))
        db.close()
    figures.extend(_at_depth())
    show("Putting a call", figures)


def _one_more_call(db: Any, where: str, goal: str) -> Figure:
    site = Site(db)
    with site.request() as calls:
        calls.root["page"] = PersistentMapping()
    without: list[float] = []
    with_call: list[float] = []
    for number in range(PAIRS + 20):
        for samples, puts in ((without, False), (with_call, True)):
            begun = time.perf_counter()
            with site.request() as calls:
                calls.root["page"]["hits"] = number
                if puts:
                    calls.put("bench.noop", ARGUMENT).on_success("path:result")
            if number >= 20:
                samples.append(time.perf_counter() - begun)
    site.close()
    ratio = statistics.median(with_call) / statistics.median(without)
    return Figure(
        f"one call with one callback in a writing transaction, {where}",
        f"{ratio:.2f} ×",
        goal,
        f"without {micros(without)}; with {micros(with_call)}",
    )


def _at_depth() -> list[Figure]:
    """CPU and wall time of a put with 100, 10,000 and 100,000 calls waiting before it."""
    with zeo() as server:
        db = server.open()
        site = Site(db, owners=20)
        depth = 0
        medians = {}
        cpu = {}
        for target in (100, 10_000, 100_000):
            while depth < target:
                with site.request() as calls:
                    for _ in range(100):
                        calls.put("bench.noop", ARGUMENT)
                        depth += 1
            samples = []
            used = time.process_time()
            for _ in range(300):
                begun = time.perf_counter()
                with site.request() as calls:
                    calls.put("bench.noop", ARGUMENT)
                samples.append(time.perf_counter() - begun)
                depth += 1
            medians[target] = statistics.median(samples)
            cpu[target] = (time.process_time() - used) / 300
        site.close()
        db.close()
    absolutes = ", ".join(
        f"{n:,}: {medians[n] * 1e6:,.0f} µs (CPU {cpu[n] * 1e6:,.0f})" for n in medians
    )
    ratio = medians[100_000] / medians[100]
    return [
        Figure("a put at 100,000 waiting calls against 100", f"{ratio:.2f} ×", "≤ 1.2", absolutes)
    ]
