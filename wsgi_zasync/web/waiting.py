# SPDX-License-Identifier: ZPL-2.1
"""The gate of waiting clients: how many web threads may be held by ``?wait=`` at a time.

One gate a process, used by all of its web threads. Whoever does not get in is answered at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: How many clients wait at a time where nothing else is configured. waitress has four threads
#: by default, and at most a quarter of them may wait.
DEFAULT_LIMIT = 1

#: Seconds that a client waits at most.
LONGEST_WAIT_SECONDS = 20.0


class WaitingGate:
    """Lets a few clients wait, one for each owner."""

    def __init__(
        self, limit: int = DEFAULT_LIMIT, longest_seconds: float = LONGEST_WAIT_SECONDS
    ) -> None:
        """Let ``limit`` clients wait at a time, each for ``longest_seconds`` at most."""
        self.limit = limit
        self.longest_seconds = longest_seconds
        self._lock = threading.Lock()
        self._owners: set[tuple[str, str]] = set()

    @contextmanager
    def entered(self, owner: tuple[str, str]) -> Iterator[bool]:
        """Be let in, or not, for the length of a ``with`` block that is told which."""
        is_in = self._enter(owner)
        try:
            yield is_in
        finally:
            if is_in:
                with self._lock:
                    self._owners.discard(owner)

    def _enter(self, owner: tuple[str, str]) -> bool:
        with self._lock:
            if len(self._owners) >= self.limit or owner in self._owners:
                return False
            self._owners.add(owner)
            return True
