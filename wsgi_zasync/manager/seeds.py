# SPDX-License-Identifier: ZPL-2.1
"""Seeds: the randomness of calls, of which their ids are made, from the operating system.

A few are drawn at a time, since to ask for some costs as much as to ask for many. One stock a
process, used by all of its threads.
"""

from __future__ import annotations

import os

from ..call import SEED_BYTES

#: How many are drawn at a time: 256 bytes, which no signal interrupts (``getrandom(2)``).
_AT_A_TIME = 16

_stock: list[bytes] = []
_drawn_by = 0


def new_seed() -> bytes:
    """A seed that nobody can guess, and that no other call gets."""
    global _drawn_by
    # Servers that fork do not all run what Python has to run in the child.
    if _drawn_by != os.getpid():
        _stock.clear()
        _drawn_by = os.getpid()
    try:
        return _stock.pop()
    except IndexError:
        drawn = os.urandom(SEED_BYTES * _AT_A_TIME)
        first, *others = (
            drawn[begin : begin + SEED_BYTES] for begin in range(0, len(drawn), SEED_BYTES)
        )
        _stock.extend(others)
        return first
