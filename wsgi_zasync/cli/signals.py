# SPDX-License-Identifier: ZPL-2.1
"""Being asked to stop: by Ctrl-C, by SIGTERM, or by a terminal that is closed.

Main thread only.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

#: Who says one of these twice wants the process to end at once.
STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_stop(stop: Callable[[], None], at_once: Callable[[], None] | None = None) -> Iterator[None]:
    """Call ``stop`` at the first signal; a second one ends the process at once.

    Args:
        stop: Called at the first signal.
        at_once: Called at the second one, before the process is ended.
    """

    def stopped(number: int, _frame: Any) -> None:
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL if at_once is None else stopped_again)
        # That a terminal is closed is told by its shell and by the system: nobody means it twice.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        stop()

    def stopped_again(number: int, _frame: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        if at_once is not None:
            at_once()
        os.kill(os.getpid(), number)

    before = {each: signal.signal(each, stopped) for each in STOPPING}
    # Whoever was started by nohup goes on when its terminal is closed.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, stopped)
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)
