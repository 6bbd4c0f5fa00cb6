# SPDX-License-Identifier: ZPL-2.1
"""A process that is nothing but a worker: what ``zasync worker`` does.

Threads: the reactor runs in the main one, so that signals reach it. SIGTERM and SIGINT stop the
worker in good order, within its grace.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from . import Worker

logger = logging.getLogger(__name__)

#: Seconds between two looks at whether the worker is still at work.
LOOK_SECONDS = 1.0


def run(worker: Worker, *, ready: Callable[[], None] = lambda: None) -> int:
    """Run the worker until a signal says to stop.

    Args:
        worker: Not started.
        ready: Called when it has begun to accept calls.

    Returns:
        0 if it was told to stop, 1 if it stopped by itself.

    Raises:
        ConfigurationError: It cannot start.
    """
    from twisted.internet import reactor

    return _Foreground(worker, reactor, ready).run()


class _Foreground:
    """The worker and the reactor of its process."""

    def __init__(self, worker: Worker, reactor: Any, ready: Callable[[], None]) -> None:
        self._worker = worker
        self._reactor = reactor
        self._ready = ready
        self._trouble: BaseException | None = None
        self._failed = False

    def run(self) -> int:
        # The worker starts when the reactor runs, so that it finds this one running.
        self._reactor.callWhenRunning(self._start)
        self._reactor.addSystemEventTrigger("before", "shutdown", self._stop)
        self._reactor.run()
        if self._trouble is not None:
            raise self._trouble
        return int(self._failed)

    def _start(self) -> None:
        try:
            self._worker.start(watchdog=True)
        except BaseException as exc:  # noqa: BLE001 - raised again once the reactor has ended
            self._trouble = exc
            self._reactor.stop()
            return
        self._ready()
        self._look()

    def _look(self) -> None:
        if self._worker.is_running:
            self._reactor.callLater(LOOK_SECONDS, self._look)
        elif self._reactor.running:
            logger.critical("worker %s has ended by itself", self._worker.name)
            self._failed = True
            self._reactor.stop()

    def _stop(self) -> Any:
        from twisted.internet.defer import Deferred

        done: Deferred[None] = Deferred()

        def stop() -> None:
            try:
                self._worker.stop()
            finally:
                # What runs in the reactor goes on until here: it has its grace as well.
                self._reactor.callFromThread(done.callback, None)

        # A thread of its own: the reactor's pool may be full of name look-ups.
        threading.Thread(target=stop, name="zasync-stop", daemon=True).start()
        return done
