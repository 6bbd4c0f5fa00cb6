# SPDX-License-Identifier: ZPL-2.1
"""Which lanes a worker reads: they are shared among the workers without a word between them.

Each lane has an order of all workers, by hash; the first that is alive reads it. Two who think
so at once conflict at its cursor, and one tries again. A worker with nothing to do looks at
the others' lanes as well, a moment later, so that nothing waits behind a busy one.

Thread: the acceptor's.
"""

from __future__ import annotations

from hashlib import blake2b

from ..clock import Clock
from ..store import Store
from ..store.accepted import WorkerArea

#: Seconds that the worker whose lane it is gets before another one helps.
HELP_AFTER_SECONDS = 0.2


class LaneShare:
    """Our part of the lanes."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known of the others yet."""
        self._clock = clock
        self._known: tuple[object, ...] = ()
        self._ours: tuple[int, ...] = ()
        self._all: tuple[int, ...] = ()
        self._help_at: float | None = None

    def update(self, store: Store, area: WorkerArea) -> None:
        """Look at who is there; in the transaction of an accept or before one."""
        claimed = tuple(store.claimed_lanes())
        queues = set(area.publication.queues)
        others = [
            other.key
            for other in store.areas()
            if other.key != area.key
            and not other.board.released
            and queues & set(other.publication.queues)
        ]
        known = (claimed, tuple(sorted(others)), area.key)
        if known == self._known:
            return
        self._known = known
        self._all = claimed
        self._ours = tuple(
            lane
            for lane in claimed
            if all(_rank(lane, area.key) > _rank(lane, other) for other in others)
        )

    def news(self) -> None:
        """There is something to accept somewhere."""
        if len(self._ours) < len(self._all) and self._help_at is None:
            self._help_at = self._clock.monotonic() + HELP_AFTER_SECONDS

    def is_time_to_help(self) -> bool:
        """Whether the others' lanes are to be looked at now."""
        return self._help_at is not None and self._clock.monotonic() >= self._help_at

    def to_read(self, *, everywhere: bool) -> tuple[int, ...]:
        """The lanes to accept from: ours first, and the others' too if asked for."""
        if not everywhere:
            return self._ours
        self._help_at = None
        ours = set(self._ours)
        return (*self._ours, *(lane for lane in self._all if lane not in ours))

    @property
    def help_at(self) -> float | None:
        """When the others' lanes are to be looked at, on the monotonic clock."""
        return self._help_at


def _rank(lane: int, key: str) -> bytes:
    return blake2b(f"{lane} {key}".encode(), digest_size=8).digest()
