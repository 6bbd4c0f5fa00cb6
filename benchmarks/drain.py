# SPDX-License-Identifier: ZPL-2.1
"""How fast waiting calls are run, against one commit a call; and whether depth matters."""

from __future__ import annotations

import statistics

from .report import Figure, show
from .servers import Server, zeo
from .site import Site
from .workers import fill, final_calls, processor_seconds, wait_until_final, workers

#: How often the two ways are measured, in turn: a machine may be half as fast a minute later.
ROUNDS = 5

#: Calls drained in batches, and one by one, in each round.
CALLS, SINGLY = 6_000, 600


def run() -> None:
    """Measure and print."""
    rates = [(_rate(CALLS, None), _rate(SINGLY, 1)) for _ in range(ROUNDS)]
    batches, singly = (statistics.harmonic_mean(each) for each in zip(*rates, strict=True))
    figures = [
        Figure(
            "two workers over ZEO, against the same two with one call a commit",
            f"{batches / singly:.1f} ×",
            "≥ 8",
            f"{batches:,.0f} calls/s; one by one {singly:,.0f}",
        )
    ]
    show("Draining no-op calls", [*figures, _at_depth()])


def _rate(calls: int, batch: int | None) -> float:
    """Calls a second of two workers, over ZEO; their start is not counted."""
    with zeo() as server:
        db = server.open()
        site = Site(db, owners=20)
        fill(site, calls)
        with workers(server, 2, batch):
            first = wait_until_final(site, calls // 10)
            before = final_calls(site)
            last = wait_until_final(site, calls)
        site.close()
        db.close()
        return (calls - before) / (last - first)


def _at_depth() -> Figure:
    costs = {}
    for depth in (100, 10_000, 100_000):
        with zeo() as server:
            db = server.open()
            site = Site(db, owners=20)
            costs[depth] = _cost(server, site, depth)
            site.close()
            db.close()
    return Figure(
        "processor time of a completion at 100,000 waiting calls against 100",
        f"{costs[100_000] / costs[100]:.2f} ×",
        "≤ 1.2",
        ", ".join(f"{depth:,}: {cost * 1e6:,.0f} µs" for depth, cost in costs.items()),
    )


def _cost(server: Server, site: Site, depth: int) -> float:
    """A worker's processor time for a call, while about ``depth`` calls wait."""
    fill(site, max(depth, 2_000) if depth > 100 else 100)
    with workers(server) as (pid,):
        done = 100 if depth == 100 else 1_000
        wait_until_final(site, done)
        before = final_calls(site)
        used = processor_seconds(pid)
        rounds = 40 if depth == 100 else 1
        for _ in range(rounds):
            if depth == 100:
                fill(site, 100)
                done += 100
            else:
                done += 4_000
            wait_until_final(site, done)
        cost = processor_seconds(pid) - used
        after = final_calls(site)
    return cost / (after - before)
