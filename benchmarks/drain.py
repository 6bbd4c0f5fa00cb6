# SPDX-License-Identifier: ZPL-2.1
"""How fast waiting calls are run, against one commit a call; and whether depth matters."""

from __future__ import annotations

import multiprocessing
import time
from typing import Any

from transaction import TransactionManager

from wsgi_zasync.call import to_micros
from wsgi_zasync.clock import SystemClock
from wsgi_zasync.store import open_store

from .report import Figure, show
from .servers import Server, zeo
from .site import Site
from .workers import fill, processor_seconds, wait_until_final, workers

#: Calls drained by workers, and by one commit each.
CALLS, SINGLY = 20_000, 1_000

_spawn = multiprocessing.get_context("spawn")


def run() -> None:
    """Measure and print."""
    batches, singly = _with_workers(), _one_commit_each()
    figures = [
        Figure(
            "two workers over ZEO, against one commit a call",
            f"{batches / singly:.1f} ×",
            "≥ 8",
            f"{batches:,.0f} calls/s; one commit a call {singly:,.0f}",
        )
    ]
    show("Draining no-op calls", [*figures, _at_depth()])


def _with_workers() -> float:
    with zeo() as server:
        db = server.open()
        site = Site(db, owners=20)
        fill(site, CALLS)
        with workers(server, 2):
            # What the first calls took to begin, a worker's start included, is not counted.
            first = wait_until_final(site, site.owners, CALLS // 10)
            with site.reading() as store:
                before = sum(sum(store.tally(o.owner).by_state.values()) for o in site.owners)
            last = wait_until_final(site, site.owners, CALLS)
        site.close()
        db.close()
        return (CALLS - before) / (last - first)


def _one_commit_each() -> float:
    with zeo() as server:
        db = server.open()
        site = Site(db, owners=20)
        fill(site, SINGLY)
        site.close()
        db.close()
        start, results = _spawn.Barrier(2), _spawn.Queue()
        processes = [
            _spawn.Process(target=_complete, args=(server, half, start, results)) for half in (0, 1)
        ]
        for process in processes:
            process.start()
        times = [results.get(timeout=300) for _ in processes]
        for process in processes:
            process.join()
        return SINGLY / max(times)


def _complete(server: Server, half: int, start: Any, results: Any) -> None:
    """End every second call, each in a commit of its own, as a simple worker would."""
    db = server.open()
    manager = TransactionManager(explicit=True)
    manager.begin()
    connection = db.open(manager)
    store = open_store(connection)
    owners = [(source, name) for n in range(20) for source, name in [("", f"owner{n}")]]
    calls = [record for owner in owners for record in store.oldest(owner)][half::2]
    manager.abort()
    start.wait()
    begun = time.perf_counter()
    for record in calls:
        manager.begin()
        record.succeed(None, to_micros(SystemClock().now()))
        manager.commit()
    results.put(time.perf_counter() - begun)
    connection.close()
    db.close()


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
        wait_until_final(site, site.owners, done)
        with site.reading() as store:
            before = sum(sum(store.tally(o.owner).by_state.values()) for o in site.owners)
        used = processor_seconds(pid)
        rounds = 40 if depth == 100 else 1
        for _ in range(rounds):
            if depth == 100:
                fill(site, 100)
                done += 100
            else:
                done += 4_000
            wait_until_final(site, site.owners, done)
        cost = processor_seconds(pid) - used
        with site.reading() as store:
            after = sum(sum(store.tally(o.owner).by_state.values()) for o in site.owners)
    return cost / (after - before)
