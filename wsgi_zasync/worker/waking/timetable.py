# SPDX-License-Identifier: ZPL-2.1
"""When a worker does what, by the clock: signs of life, looks for calls, and what it owes later.

It is asked what is due and told what was done; it does nothing itself. Moments are on the
monotonic clock, but for that at which a waiting call is due. ``now`` is the moment at which the
turn began: a commit that takes long makes nothing later.

Thread: the acceptor's.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from ...clock import Clock
from ...settings import WorkerSettings
from .owed import Owed

#: Seconds between two signs of life on our board, at most; and how many of them fit into the
#: time after which a worker is dead.
BEAT_SECONDS = 5.0
BEATS_BEFORE_DEATH = 3

#: Seconds between two looks at progress, if anything runs long enough to be on the board.
PROGRESS_SECONDS = 2.0

#: Seconds after which what could not be committed is tried again, at most; it is a conflict,
#: mostly. What fails again and again is tried less and less, as often as a sign of life is given.
AGAIN_SECONDS = 0.02


class Timetable:
    """What one worker does next, and when."""

    def __init__(self, clock: Clock, settings: WorkerSettings) -> None:
        """Let everything be due at once."""
        self._clock = clock
        self._random = Random()
        self._poll_seconds = settings.safety_poll
        self._beat_seconds = min(BEAT_SECONDS, settings.dead_after / BEATS_BEFORE_DEATH)
        self._beat_at = self._progress_at = self._poll_at = 0.0
        #: When the first of our waiting calls is due, in microseconds.
        self._due: int | None = None
        #: Until when a commit that conflicted waits, so that the other one can get done.
        self._again_at: float | None = None
        self._again_seconds = AGAIN_SECONDS
        #: Whether there may be calls to accept now.
        self.is_more_there = True
        #: What is to be tried again later.
        self.owed = Owed()

    def open(self) -> None:
        """Let a sign of life and a look everywhere be due; what is owed stays owed."""
        self._beat_at = self._poll_at = self._clock.monotonic()
        self.is_more_there = True

    # -- looks for calls --------------------------------------------------------------------

    def is_time_to_look(self) -> bool:
        """Whether there may be calls to accept."""
        due = self._due is not None and self._due <= self._clock.micros()
        return self.is_more_there or due

    def is_time_to_poll(self, now: float) -> bool:
        """Whether calls are looked for everywhere, whatever we were told of."""
        return now >= self._poll_at

    def looked(self, now: float, *, everywhere: bool, more: bool, next_due: int | None) -> None:
        """Calls were accepted, as far as there were any.

        Args:
            now: When the turn began.
            everywhere: Whether it was a poll.
            more: Whether some may be left.
            next_due: When the first of those that wait is due, in microseconds.
        """
        self.is_more_there, self._due = more, next_due
        if everywhere:
            self._poll_at = now + self._poll_seconds

    # -- the board --------------------------------------------------------------------------

    def is_time_to_beat(self, now: float) -> bool:
        """Whether the board has to be written, whatever is on it."""
        return now >= self._beat_at

    def is_time_for_progress(self, now: float) -> bool:
        """Whether it is looked at what runs: the board is written if that has changed."""
        return now >= self._progress_at

    def saw_progress(self, now: float) -> None:
        """It was looked at what runs."""
        self._progress_at = now + PROGRESS_SECONDS

    def beat(self, now: float) -> None:
        """The board was written."""
        self._beat_at = now + self._beat_seconds
        self.saw_progress(now)

    # -- waiting ----------------------------------------------------------------------------

    def tried(self, now: float, *, complete: bool) -> None:
        """A commit has come about, or has to be tried again."""
        if complete:
            self._again_at, self._again_seconds = None, AGAIN_SECONDS
            return
        self._again_at = now + self._again_seconds * self._random.random()
        self._again_seconds = min(2 * self._again_seconds, self._beat_seconds)

    def seconds_to_wait(
        self, others: Iterable[float | None], *, progress_from: float | None, accepting: bool
    ) -> float:
        """How long nothing is due.

        Args:
            others: Moments at which others have something to do.
            progress_from: From when on what runs is worth a look; None: it is not.
            accepting: Whether anything comes of a look for calls.
        """
        now = self._clock.monotonic()
        if self._again_at is not None and self._again_at > now:
            return self._again_at - now
        times = [self._beat_at, self.owed.next_at, *others]
        if progress_from is not None:
            times.append(max(self._progress_at, progress_from))
        if accepting:
            times += [now if self.is_more_there else self._poll_at, self._due_at(now)]
        return max(0.0, min(at for at in times if at is not None) - now)

    def _due_at(self, now: float) -> float | None:
        if self._due is None:
            return None
        return now + max(0.0, (self._due - self._clock.micros()) / 1_000_000)
