# SPDX-License-Identifier: ZPL-2.1
"""Accepted calls that have not begun: whose turn is next.

High priority first; among equals the owners take turns, so that of the calls that are here one
with a hundred delays nobody by more than one; all owners that are only a browser session share one
turn. A plugin that runs as many calls as it may lets the others pass.

Threads: belongs to the acceptor's thread.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator

from ..security import SESSION_SOURCE
from .held import Held


class Backlog:
    """Accepted calls in the order in which they are to begin."""

    def __init__(self) -> None:
        #: priority -> turn -> calls, the first turn being next
        self._turns: dict[int, OrderedDict[object, deque[Held]]] = {}
        self._length = 0
        #: How many there are, by plugin.
        self.by_plugin: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Held]:
        for turns in self._turns.values():
            for calls in turns.values():
                yield from calls

    def add(self, held: Held) -> None:
        """Put a call at the end of its owner's line."""
        turns = self._turns.setdefault(held.priority, OrderedDict())
        # Whoever has no account counts as one owner.
        turn = SESSION_SOURCE if held.owner[0] == SESSION_SOURCE else held.owner
        calls = turns.get(turn)
        if calls is None:
            calls = turns[turn] = deque()
        calls.append(held)
        self._length += 1
        self.by_plugin[held.plugin] += 1

    def take(self, limit: int, may_begin: Callable[[Held], bool]) -> list[Held]:
        """Take up to ``limit`` calls out, in turn.

        Args:
            limit: How many at most.
            may_begin: Asked for each in order, and told so by being asked: what it says yes
                to is taken.
        """
        taken: list[Held] = []
        for priority in sorted(self._turns):
            turns = self._turns[priority]
            stuck = 0
            while turns and stuck < len(turns) and len(taken) < limit:
                turn, calls = next(iter(turns.items()))
                held = _first(calls, may_begin)
                if held is None:
                    stuck += 1
                    turns.move_to_end(turn)
                    continue
                stuck = 0
                taken.append(held)
                if calls:
                    turns.move_to_end(turn)
                else:
                    del turns[turn]
            if not turns:
                del self._turns[priority]
        self._length -= len(taken)
        self.by_plugin -= Counter(held.plugin for held in taken)
        return taken


def _first(calls: deque[Held], may_begin: Callable[[Held], bool]) -> Held | None:
    # What cannot begin blocks only calls of its own plugin, so that each plugin of a line is
    # asked about once: a line of ten thousand calls is not walked through for each.
    refused: set[str] = set()
    for index, held in enumerate(calls):
        if held.plugin in refused:
            continue
        if may_begin(held):
            del calls[index]
            return held
        refused.add(held.plugin)
    return None
