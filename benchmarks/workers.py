# SPDX-License-Identifier: ZPL-2.1
"""Worker processes for the benchmarks, and how much processor time they took."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from wsgi_zasync.worker import Worker

from .servers import Server
from .site import PLUGINS, QUOTAS, Site

_spawn = multiprocessing.get_context("spawn")


@contextlib.contextmanager
def workers(
    server: Server, count: int = 1, batch: int | None = None, *, provoked: str | None = None
) -> Iterator[list[int]]:
    """So many worker processes; gives their pids once all of them are ready.

    Args:
        server: Where the calls are.
        count: How many.
        batch: How many calls they write in a commit at most; None: as they come.
        provoked: The plugin whose callbacks fail on purpose, of which the log says nothing.
    """
    ready = _spawn.Queue()
    processes = [
        _spawn.Process(target=_work, args=(server, ready, batch, provoked)) for _ in range(count)
    ]
    for process in processes:
        process.start()
    try:
        yield [ready.get(timeout=60) for _ in processes]
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join()


def _work(server: Server, ready: Any, batch: int | None, provoked: str | None) -> None:
    logging.getLogger("wsgi_zasync.worker").addFilter(partial(_is_told, provoked))
    if batch is not None:
        for name, module in list(sys.modules.items()):
            if name.startswith("wsgi_zasync.worker") and hasattr(module, "BATCH"):
                module.BATCH = batch  # type: ignore[attr-defined]
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    worker = in_process(server.open())
    worker.start()
    ready.put(os.getpid())
    while not stopping:
        signal.pause()
    worker.stop(grace_seconds=1.0)


def _is_told(provoked: str | None, line: logging.LogRecord) -> bool:
    """Whether a line of the worker's log is of anything but what was provoked."""
    of_it = getattr(line, "plugin", None) == provoked
    return not (of_it and getattr(line, "action", None) == "callbacks failed")


def in_process(db: Any) -> Worker:
    """A worker on this database, with the benchmarks' plugins."""
    quotas = {name: getattr(QUOTAS, name) for name in ("max_open_calls", "max_stored_calls")}
    return Worker(db, plugins=PLUGINS, **quotas)


def processor_seconds(pid: int) -> float:
    """Processor time, user and system, that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def fill(site: Site, calls: int, plugin: str = "bench.noop", together: int = 100) -> None:
    """Put calls, so many in a transaction."""
    from .site import ARGUMENT

    for _ in range(calls // together):
        with site.request() as manager:
            for _ in range(together):
                manager.put(plugin, ARGUMENT)


def final_calls(site: Site) -> int:
    """How many calls have ended."""
    with site.reading() as store:
        return sum(sum(store.tally(o.owner).by_state.values()) for o in site.owners)


def wait_until_final(site: Site, count: int, timeout: float = 300.0) -> float:
    """Wait until so many calls are final; returns when that was seen."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        final = final_calls(site)
        now = time.perf_counter()
        if final >= count:
            return now
        time.sleep(0.02)
    raise TimeoutError(f"{final} of {count} calls were final after {timeout:g} s")
