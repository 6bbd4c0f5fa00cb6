# SPDX-License-Identifier: ZPL-2.1
"""Ends a worker process whose commit does not come back.

A client of ZEO that hangs between its vote and its finish blocks every commit of the server,
so that a stuck worker has to go rather than wait: what it held is taken over by another.
Only ``zasync worker`` has a watchdog; a web process is never killed by its embedded worker.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable

from ..clock import Clock

logger = logging.getLogger(__name__)


def kill_this_process() -> None:
    """End at once: a thread that is stuck in a commit cannot be ended otherwise."""
    os.kill(os.getpid(), signal.SIGKILL)


class Watchdog:
    """Looks at every commit that has begun and not returned."""

    def __init__(
        self,
        clock: Clock,
        limit_seconds: float,
        bite: Callable[[], None] = kill_this_process,
    ) -> None:
        """Describe it; nothing is watched before ``start``."""
        self._clock = clock
        self._limit = limit_seconds
        self._bite = bite
        self._begun: dict[int, float] = {}
        self._stop = threading.Event()

    def enter(self) -> None:
        """This thread begins a commit."""
        self._begun[threading.get_ident()] = self._clock.monotonic()

    def leave(self) -> None:
        """This thread's commit has come back."""
        self._begun.pop(threading.get_ident(), None)

    def look(self) -> bool:
        """Bite if a commit has taken too long; whether it did."""
        begun = min(list(self._begun.values()), default=None)
        if begun is None or self._clock.monotonic() - begun < self._limit:
            return False
        logger.critical(
            "a commit has not come back for %.0f seconds; this worker ends itself, so that the "
            "storage is free again and others can take its calls over",
            self._limit,
        )
        self._bite()
        return True

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        threading.Thread(target=self._watch, name="zasync-watchdog", daemon=True).start()

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()

    def _watch(self) -> None:
        while not self._stop.wait(min(1.0, self._limit / 4)) and not self.look():
            pass
