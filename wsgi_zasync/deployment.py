# SPDX-License-Identifier: ZPL-2.1
"""What a process knows for all its requests, or for all its attempts.

Made once from the configuration, by the middleware or by a worker, and shared by all threads;
only ``Headroom``, the lanes and the texts change, and they have locks of their own.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .built_texts import BuiltTexts
from .clock import Clock, SystemClock
from .plugins import Registry
from .ports import SecurityPolicy
from .sealing import Sealer
from .security import DefaultPolicy
from .settings import Quotas
from .store.claims import LanePools


class Headroom:
    """How many more puts need no look at the owner's tallies.

    A full look reads a part of the store for each lane the owner has calls in. Far from a limit
    that is a waste, so a look gives credit for a part of the distance; close to it every put
    looks. A process never gives more credit than there was room, so alone it is exact; each further
    process may exceed a limit by that part at most.
    """

    #: The part of the room that is given as credit, and the seconds that it holds.
    SHARE = 8
    SECONDS = 10.0
    #: Owners remembered at a time.
    OWNERS = 10_000

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._credits: dict[tuple[str, str], tuple[float, float, float]] = {}

    def spend(self, owner: tuple[str, str], size: int) -> bool:
        """Use credit for a put of ``size`` bytes; whether there was any."""
        with self._lock:
            calls, room, until = self._credits.get(owner, (0.0, 0.0, 0.0))
            if calls < 1 or room < size or until < self._clock.monotonic():
                self._credits.pop(owner, None)
                return False
            self._credits[owner] = (calls - 1, room - size, until)
            return True

    def grant(self, owner: tuple[str, str], calls: int, size: int) -> None:
        """Give credit, the owner having this much room left."""
        with self._lock:
            if len(self._credits) >= self.OWNERS:
                self._credits.clear()
            until = self._clock.monotonic() + self.SECONDS
            self._credits[owner] = (calls // self.SHARE, size // self.SHARE, until)


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One site of one process."""

    registry: Registry
    policy: SecurityPolicy = field(default_factory=DefaultPolicy)
    clock: Clock = field(default_factory=SystemClock)
    quotas: Quotas = field(default_factory=Quotas)
    #: Seals secrets; None where no secret is configured, and a ``Secret`` is refused then.
    sealer: Sealer | None = None
    #: The part of the store that is ours.
    site: str = "main"
    #: Names that every callback expression sees, beside those of its call.
    exposed: Mapping[str, Any] = field(default_factory=dict)
    #: Which lanes this process puts into.
    lanes: LanePools = field(default_factory=LanePools)
    #: Warns of callback texts that look built from data.
    texts: BuiltTexts = field(default_factory=BuiltTexts, repr=False)
    #: How many puts need no look at what their owner has.
    headroom: Headroom = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "headroom", Headroom(self.clock))
