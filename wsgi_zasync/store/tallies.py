# SPDX-License-Identifier: ZPL-2.1
"""How many calls an owner has, by state, without a counter that everybody writes.

What was put is read off the owner's index. What ended or was forgotten is counted where that is
written: by a worker in its own area, by a request in the lane it holds. The sum is exact in any
one snapshot, and no two writers share a counter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from BTrees.OOBTree import OOBTree

from ..states import CallState

#: The order of the counts in a stored tally.
ENDS = (CallState.SUCCEEDED, CallState.FAILED, CallState.CANCELLED, CallState.EXPIRED)
_POSITIONS: dict[str, int] = {state: position for position, state in enumerate(ENDS)}
_ZERO = (0,) * (2 * len(ENDS) + 1)


@dataclass(frozen=True, slots=True)
class Tally:
    """An owner's calls in numbers."""

    #: Calls that are not final.
    open: int
    #: Calls that are not forgotten, final or not.
    stored: int
    #: Bytes of arguments, results and callbacks of the stored calls.
    bytes: int
    #: How many of the stored calls are in each final state.
    by_state: dict[CallState, int]


class Tallies(OOBTree):
    """Owner key -> counts, written by one alone.

    An end rewrites the leaf that its owner is in, so leaves are small: with the usual ones of up
    to 30, each end of a call of one of 20 owners wrote 0.8 kB of tallies. Stores that were made
    with usual ones keep them.
    """

    max_leaf_size = 8


def count_end(tallies: OOBTree, owner_key: str, state: str, size: int) -> None:
    """Count that a call ended in ``state``, its outcome being of ``size`` bytes."""
    _add(tallies, owner_key, _POSITIONS[state], size)


def count_forgotten(tallies: OOBTree, owner_key: str, state: str, size: int) -> None:
    """Count that a call that had ended in ``state`` is forgotten, with all its bytes."""
    _add(tallies, owner_key, len(ENDS) + _POSITIONS[state], -size)


def count_bytes(tallies: OOBTree, owner_key: str, size: int) -> None:
    """Count bytes that a call has got after it ended."""
    counts = tallies.get(owner_key, _ZERO)
    tallies[owner_key] = (*counts[:-1], counts[-1] + size)


def _add(tallies: OOBTree, owner_key: str, position: int, size: int) -> None:
    counts = list(tallies.get(owner_key, _ZERO))
    counts[position] += 1
    counts[-1] += size
    tallies[owner_key] = tuple(counts)


def take_over(into: OOBTree, from_: OOBTree) -> None:
    """Add the counts of a worker that is no more to those of the one who takes over."""
    for key, counts in from_.items():
        into[key] = tuple(a + b for a, b in zip(into.get(key, _ZERO), counts, strict=True))


def summed(put_count: int, put_bytes: int, counts: Iterable[tuple[int, ...]]) -> Tally:
    """What was put and what was counted, as a tally."""
    total = list(_ZERO)
    for each in counts:
        total = [a + b for a, b in zip(total, each, strict=True)]
    ended, forgotten = total[: len(ENDS)], total[len(ENDS) : -1]
    by_state = {s: e - f for s, e, f in zip(ENDS, ended, forgotten, strict=True)}
    return Tally(
        open=put_count - sum(ended),
        stored=put_count - sum(forgotten),
        bytes=put_bytes + total[-1],
        by_state=by_state,
    )
