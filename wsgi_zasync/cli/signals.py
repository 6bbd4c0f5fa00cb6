# SPDX-License-Identifier: ZPL-2.1
"""Being asked to stop by Ctrl-C or SIGTERM. Main thread only."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def on_stop(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` at the first signal; a second one ends the process at once."""

    def stopped(number: int, _frame: Any) -> None:
        for each in STOPPING:
            signal.signal(each, signal.SIG_DFL)
        stop()

    before = {each: signal.signal(each, stopped) for each in STOPPING}
    try:
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)
