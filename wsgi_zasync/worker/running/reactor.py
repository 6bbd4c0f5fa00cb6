# SPDX-License-Identifier: ZPL-2.1
"""The one reactor of this process.

Twisted has one reactor a process and can never start it twice. So it is started once, in a
thread of its own that nobody waits for, and never stopped; if the host, or ``zasync worker`` in
its main thread, runs it already, that one is used.

Threads: ``ensure_running`` may be called from any; what it returns is not thread-safe except
for ``callFromThread``.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from ...errors import ConfigurationError

_LOCK = threading.Lock()
#: The process that started the reactor's thread: after a fork only the parent has it.
_STARTED_BY: list[int] = []


def ensure_running() -> Any:
    """The reactor, running; started in a thread of its own if nobody runs it yet.

    Raises:
        ConfigurationError: The process was forked after its reactor had been started.
    """
    from twisted.internet import reactor

    found: Any = reactor
    with _LOCK:
        if _STARTED_BY and _STARTED_BY[0] != os.getpid():
            raise ConfigurationError(
                "this process was forked after a worker had been started in its parent; start "
                "workers after the fork, for instance at the first request"
            )
        if not found.running and not _STARTED_BY:
            _start(found)
            _STARTED_BY.append(os.getpid())
    return found


def log_by_logging() -> None:
    """Have Twisted tell of lost errors, and of warnings, by ``logging``.

    Else it writes them to stderr. Only for a process of ours: a host decides on its own.
    """
    from twisted.logger import STDLibLogObserver, globalLogBeginner

    observer: Any = STDLibLogObserver()
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)


def _start(reactor: Any) -> None:
    running = threading.Event()
    reactor.callWhenRunning(running.set)
    # Daemonic, as are the threads that the reactor's own pool makes from it: a web process that
    # ends must not wait for them. Signals stay the host's.
    threading.Thread(
        target=reactor.run,
        kwargs={"installSignalHandlers": False},
        name="zasync-reactor",
        daemon=True,
    ).start()
    running.wait()
