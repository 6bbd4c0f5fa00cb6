# SPDX-License-Identifier: ZPL-2.1
"""What a put costs the request: in a transaction that writes anyway, and at depth."""

from __future__ import annotations

import contextlib
import statistics
import time
from typing import Any

from persistent import Persistent
from persistent.mapping import PersistentMapping

from .report import Figure, micros, show
from .servers import zeo
from .site import ARGUMENT, Site
from .workers import fill

#: Rounds of transactions: without a put, with one, and with a bare object in its place.
ROUNDS = 400

#: Calls that wait already.
DEPTHS = (100, 10_000, 100_000)

#: Bytes of a call's record.
RECORD = 500


class Bare(Persistent):
    """An object of ZODB's with nothing but bytes."""

    content = b""


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
        calls.root["bare"] = [Bare() for _ in range(ROUNDS + 20)]
    samples: dict[str, list[float]] = {"without": [], "with": [], "bare": []}
    for number in range(ROUNDS + 20):
        for kind, taken in samples.items():
            begun = time.perf_counter()
            with site.request() as calls:
                calls.root["page"]["hits"] = number
                if kind == "with":
                    calls.put("bench.noop", ARGUMENT).on_success("path:result")
                elif kind == "bare":
                    calls.root["bare"][number].content = bytes(RECORD)
            if number >= 20:
                taken.append(time.perf_counter() - begun)
    site.close()
    medians = {kind: statistics.median(taken) for kind, taken in samples.items()}
    means = {kind: statistics.fmean(taken) for kind, taken in samples.items()}
    return Figure(
        f"one call with one callback in a writing transaction, {where}",
        f"{medians['with'] / medians['without']:.2f} ×",
        goal,
        f"without {micros(samples['without'])}; with {micros(samples['with'])}; by the means, of "
        f"which some make a segment, {means['with'] / means['without']:.2f} ×; a bare object of "
        f"the same size in place of the call {medians['bare'] / medians['without']:.2f} ×",
    )


def _at_depth() -> list[Figure]:
    """Wall and CPU time of a put behind 100, 10,000 and 100,000 waiting calls, in turn."""
    walls: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    cpus: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    with contextlib.ExitStack() as stack:
        sites = {depth: _site_with(stack, depth) for depth in DEPTHS}
        for _ in range(300):
            for depth, site in sites.items():
                begun, used = time.perf_counter(), time.process_time()
                with site.request() as calls:
                    calls.put("bench.noop", ARGUMENT)
                walls[depth].append(time.perf_counter() - begun)
                cpus[depth].append(time.process_time() - used)
    wall = {depth: statistics.median(walls[depth]) for depth in DEPTHS}
    cpu = {depth: statistics.median(cpus[depth]) for depth in DEPTHS}
    absolutes = ", ".join(
        f"{n:,}: {wall[n] * 1e6:,.0f} µs (CPU {cpu[n] * 1e6:,.0f})" for n in DEPTHS
    )
    ratio = wall[DEPTHS[-1]] / wall[DEPTHS[0]]
    return [
        Figure("a put at 100,000 waiting calls against 100", f"{ratio:.2f} ×", "≤ 1.2", absolutes)
    ]


def _site_with(stack: contextlib.ExitStack, depth: int) -> Site:
    """A site on a server of its own, with so many calls waiting."""
    db = stack.enter_context(zeo()).open()
    stack.callback(db.close)
    site = Site(db, owners=20)
    stack.callback(site.close)
    fill(site, depth)
    return site
