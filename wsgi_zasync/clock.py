# SPDX-License-Identifier: ZPL-2.1
"""The only place that reads the time."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What tells the time; tests bring one of their own."""

    def now(self) -> datetime:
        """The wall clock as an aware datetime in UTC."""

    def micros(self) -> int:
        """The same in microseconds since 1970 UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary beginning."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The wall clock as an aware datetime in UTC."""
        return datetime.now(UTC)

    def micros(self) -> int:
        """The same in microseconds since 1970 UTC."""
        return time.time_ns() // 1_000

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary beginning."""
        return time.monotonic()


def seconds(duration: float | timedelta) -> float:
    """A duration given as seconds or as a timedelta, in seconds; infinite if none can tell it."""
    if isinstance(duration, timedelta):
        return duration.total_seconds()
    try:
        return float(duration)
    except OverflowError:
        return math.inf if duration > 0 else -math.inf
