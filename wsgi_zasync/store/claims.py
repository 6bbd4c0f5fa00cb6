# SPDX-License-Identifier: ZPL-2.1
"""Claims: which process puts into which lane.

A claim is advice that keeps producers apart, so that their puts never conflict. It is written in
a small transaction of its own, before or beside the one that puts. If two processes use one lane
all the same, they conflict at the next record of an owner or at the end of a log, and one retries:
nothing is lost or doubled.

``LanePool`` is the memory of one process; any of its threads may use it. What each put changes
there is changed by single operations of a dict, so that a put waits for no lock.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import Any
from weakref import ref

from ZODB.utils import p64, u64

from ..call import LANES
from .root import Site

#: How many unclaimed candidates are compared when every lane has been claimed before.
_CANDIDATES = 4


def claim(site: Site, token: str) -> int:
    """Claim a lane in this transaction, a free one if there is one; returns its number."""
    free = [number for number in range(LANES) if number not in site.claims]
    if free:
        number = random.SystemRandom().choice(free)
    else:
        candidates = random.SystemRandom().sample(range(LANES), _CANDIDATES)
        number = min(candidates, key=lambda lane: site.lanes[lane].last_opened())
    site.claims[number] = token
    return number


def seen_before(connection: Any) -> bytes:
    """The tid before which the connection's transaction sees all commits, and none from it on.

    Of a storage with snapshots of its own it is the one after its last poll's.
    """
    storage = connection._normal_storage
    begin: bytes | None = getattr(storage, "_start", None)
    return p64(u64(storage.lastTransaction()) + 1) if begin is None else begin


class LanePool:
    """Lanes that this process has claimed in one site, each used by one transaction at a time."""

    #: More lanes than this are not claimed by one process, half of all: transactions share them
    #: then. It claims no more than it has threads that put at a time, or a few.
    MAX_LANES = 32

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        #: While one more is claimed.
        self._lock = threading.Lock()
        #: Those that no transaction uses, as keys: the one that was given back first in front.
        self._free: dict[int, bool] = {}
        self._all: list[int] = []
        #: lane -> tid of the last commit of this process that put into it
        self._last: dict[int, bytes] = {}
        self._pid = os.getpid()

    def take(self, claim_one: Callable[[], int], before: bytes) -> int:
        """A lane that no other transaction of this process uses now.

        Args:
            claim_one: Claims one more, in a transaction of its own.
            before: The tid before which the transaction sees all commits. If it began before
                the last put into a lane, it would conflict there, although nobody else uses the
                lane.
        """
        self._forget_after_fork()
        lane = self._take_seen(before)
        if lane is None:
            # One thread after another: what they claim would conflict, and be too much.
            with self._lock:
                lane = self._take_seen(before)
                if lane is None:
                    lane = self._take_one_more(claim_one)
        return lane

    def _take_seen(self, before: bytes) -> int | None:
        # The ones that were given back last first, so that as few as possible are in use, and the
        # others are left for transactions that began long ago and see no recent put.
        for lane in reversed(tuple(self._free)):
            if self._last.get(lane, b"") < before and self._free.pop(lane, False):
                # Another transaction may have used it since it was looked at.
                if self._last.get(lane, b"") < before:
                    return lane
                self._free[lane] = True
        return None

    def _take_one_more(self, claim_one: Callable[[], int]) -> int:
        if len(self._all) < self.MAX_LANES:
            lane = claim_one()
            if lane not in self._all:
                self._all.append(lane)
            return lane
        for lane in tuple(self._free):
            if self._free.pop(lane, False):
                return lane
        return random.SystemRandom().choice(self._all)

    def retake(self, lane: int) -> bool:
        """Take this lane; False if another transaction uses it now."""
        self._forget_after_fork()
        return self._free.pop(lane, False)

    def give_back(self, lane: int, last: bytes = b"") -> None:
        """The transaction that took the lane is over.

        Args:
            last: Its tid; empty if it was aborted.
        """
        # In the child of a fork it is the parent's, and forgotten with all others by ``take``.
        if last > self._last.get(lane, b""):
            self._last[lane] = last
        if lane in self._all:
            self._free[lane] = True

    def has_put(self, lane: int, before: bytes) -> bool:
        """Whether who sees what was committed before this tid sees a put of this process there.

        Then the claim is seen as well.
        """
        return b"" < self._last.get(lane, b"") < before

    def claimed(self) -> tuple[int, ...]:
        """The lanes that this process has claimed.

        A transaction that was open before a claim does not see it in the store; its own puts
        are there all the same.
        """
        self._forget_after_fork()
        return tuple(self._all)

    def _forget_after_fork(self) -> None:
        # Before the lock is touched: another thread of the parent may have held it in the fork.
        if self._pid != os.getpid():
            self._begin()


class LanePools:
    """The pools of this process, one for each database: a claim in one is none in another."""

    def __init__(self) -> None:
        #: By the database's id, which may be another's once it is gone.
        self._pools: dict[int, tuple[ref[Any], LanePool]] = {}

    def of(self, database: Any) -> LanePool:
        """The pool of a ``ZODB.DB``, made at first need."""
        found = self._pools.get(id(database))
        if found is None or found[0]() is not database:
            for key, (known, _) in list(self._pools.items()):
                if known() is None:
                    self._pools.pop(key, None)
            found = self._pools.setdefault(id(database), (ref(database), LanePool()))
        return found[1]
