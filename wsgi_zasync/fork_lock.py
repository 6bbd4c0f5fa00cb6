# SPDX-License-Identifier: ZPL-2.1
"""Locks that a forked process finds open, whichever thread of its parent held them.

Only the thread that forks lives on in the child: what another one held there would stay locked
for ever. What such a lock guards must be checked anew in the child, as databases and processes
are by their pid.
"""

from __future__ import annotations

import os
import threading
from types import TracebackType
from weakref import WeakSet


class ForkLock:
    """A lock for ``with``, open in each process that is forked."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Be open: in the child of a fork, where no other thread is."""
        self._lock = threading.Lock()


_locks: WeakSet[ForkLock] = WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, where nothing forks
    os.register_at_fork(after_in_child=_renew_all)
