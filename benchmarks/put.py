# SPDX-License-Identifier: ZPL-2.1
"""What a put costs the request: in a transaction that writes anyway, and at depth."""

from __future__ import annotations

import statistics
import time
from typing import Any

from persistent import Persistent
from persistent.mapping import PersistentMapping

from .report import Figure, micros, show
from .servers import zeo
from .site import ARGUMENT, Site

#: Rounds of transactions: without a put, with one, and with two bare objects in its place.
ROUNDS = 400

#: Bytes of a call's record, and of a segment of its owner's index with 16 calls.
RECORD, SEGMENT = 485, 540


class Bare(Persistent):
    """An object of ZODB's with nothing but bytes."""

    def __init__(self, size: int) -> None:
        self.content = bytes(size)


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
        calls.root["list"] = Bare(0)
    samples: dict[str, list[float]] = {"without": [], "with": [], "bare": []}
    for number in range(ROUNDS + 20):
        for kind, taken in samples.items():
            begun = time.perf_counter()
            with site.request() as calls:
                calls.root["page"]["hits"] = number
                if kind == "with":
                    calls.put("bench.noop", ARGUMENT).on_success("path:result")
                elif kind == "bare":
                    _write_bare_objects(calls.root["list"])
            if number >= 20:
                taken.append(time.perf_counter() - begun)
    site.close()
    medians = {kind: statistics.median(taken) for kind, taken in samples.items()}
    return Figure(
        f"one call with one callback in a writing transaction, {where}",
        f"{medians['with'] / medians['without']:.2f} ×",
        goal,
        f"without {micros(samples['without'])}; with {micros(samples['with'])}; two bare objects "
        f"of the same sizes in place of the call {medians['bare'] / medians['without']:.2f} ×",
    )


def _write_bare_objects(first: Bare) -> None:
    """One new object, and one that refers to it and is written again."""
    first.content = bytes(SEGMENT)
    first.last = Bare(RECORD)  # type: ignore[attr-defined]


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
