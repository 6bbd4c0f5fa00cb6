# SPDX-License-Identifier: ZPL-2.1
"""What one commit of the acceptor is about, and what it brought.

Thread: the acceptor's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from .desk import Writing
from .held import Entry, Held, Report, Settled

#: Calls in one accept, and completions in one commit.
BATCH = 100

#: oid -> attempt, started in microseconds, fraction, message
RunningOnBoard = dict[bytes, tuple[int, int, float | None, str]]


class AtOnce(Protocol):
    """Runs calls that are accepted in a transaction before that is committed."""

    def begin(self, writing: Writing, held: list[Held], /) -> bool:
        """Begin them; false if they are not the few short ones that this is for."""

    def ended(self) -> list[Report]:
        """What of them has ended, after a moment; also what is over, and written already."""

    def give_up(self) -> None:
        """The transaction has not come about."""


@dataclass(slots=True)
class Work:
    """What is to be in one commit."""

    reports: list[Report] = field(default_factory=list)
    #: Accept up to so many calls, from our lanes or from everybody's.
    limit: int = 0
    everywhere: bool = False
    #: Plugins of which no more calls are wanted now.
    held_up: frozenset[str] = frozenset()
    #: Chunks whose calls are all done.
    drop: list[int] = field(default_factory=list)
    #: The board's new content: our sign of life.
    board: RunningOnBoard | None = None
    released: bool = False
    #: The call that begins alone after this commit.
    mark: Held | None = None
    #: Runs what is accepted before the commit.
    at_once: AtOnce | None = None


@dataclass(slots=True)
class Round:
    """What one commit brought."""

    entries: list[Entry] = field(default_factory=list)
    #: Reports that are not written yet.
    left: list[Report] = field(default_factory=list)
    #: Reports of calls whose callbacks take long: not for this thread.
    long: list[Report] = field(default_factory=list)
    accepted: list[Held] = field(default_factory=list)
    #: Accepted, and begun already.
    begun: list[Held] = field(default_factory=list)
    notes: list[Held] = field(default_factory=list)
    #: Whether what else was asked for is written too.
    complete: bool = True
    #: What should wake us: the oids that change when there is something to accept.
    watched: frozenset[bytes] = frozenset()
    #: When the first of our waiting calls is due, in microseconds.
    next_due: int | None = None
    #: Whether more was there than the limit allowed.
    more: bool = False

    def settled(self, entry: Entry) -> None:
        """Take in what a report led to."""
        if entry.settled is Settled.NOT_NOW:
            self.left.append(entry.report)
        elif entry.settled is Settled.LONG:
            self.long.append(entry.report)
        else:
            self.entries.append(entry)

    def take(self, part: Round) -> None:
        """Take in what became of the reports of a part."""
        self.entries += part.entries
        self.left += part.left
        self.long += part.long
