# SPDX-License-Identifier: ZPL-2.1
"""How much an expression may use, and the budget that one evaluation has left.

A budget belongs to one evaluation in one thread. Steps bound the time, size
bounds the memory; the wall clock is only the last guard, looked at now and
then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from ..clock import Clock, SystemClock
from ..errors import ResourceLimit

#: The clock is read once in this many steps.
LOOK_EVERY = 2_000

#: How many items are copied in the time of one step.
ITEMS_PER_STEP = 4

#: Integers of more bits take as many steps as that number of bits goes into them, squared:
#: about what multiplying, dividing and writing them takes.
LONG_BITS = 256

#: How many units of size are worked through in the time of one step.
SIZE_PER_STEP = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one expression may use; over any of them it ends with `ResourceLimit`.

    Args:
        source: Characters of the text.
        nesting: Brackets, operators, prefixes inside one another.
        nodes: Parts of a ``python:`` expression.
        steps: Elementary operations of one evaluation.
        size: Characters, bytes and (each as eight) items of all values that
            one evaluation builds.
        text: Characters of one text, bytes of one bytes value.
        items: Items of one list, tuple, dict or set.
        integer_bits: Binary digits of one integer.
        width: Width and precision of formats.
        depth: Containers inside one another.
        seconds: Wall time, exposed code not counted.
    """

    source: int = 4_096
    nesting: int = 40
    nodes: int = 600
    steps: int = 200_000
    size: int = 16_000_000
    text: int = 1_000_000
    items: int = 100_000
    integer_bits: int = 4_096
    width: int = 1_000
    depth: int = 50
    seconds: float = 0.5


#: What holds where nobody says otherwise.
DEFAULT_LIMITS = Limits()

SYSTEM_CLOCK = SystemClock()


class Budget:
    """What is left of the limits in one evaluation."""

    __slots__ = (
        "_clock", "_deadline", "_give_way", "_look_at", "_size_left", "_steps_left", "limits",
    )  # fmt: skip

    def __init__(
        self, limits: Limits, clock: Clock, give_way: Callable[[], None] | None = None
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._give_way = give_way
        self._steps_left = limits.steps
        self._size_left = limits.size
        self._look_at = max(limits.steps - LOOK_EVERY, 0)
        # The clock starts when it is first looked at: short evaluations never do.
        self._deadline: float | None = None

    def spend(self, steps: int) -> None:
        """Take steps from the budget, before they are done.

        Raises:
            ResourceLimit: There are not so many left, or the time is over.
        """
        left = self._steps_left = self._steps_left - steps
        if left < self._look_at:
            self._look(left)

    def build(self, size: int) -> None:
        """Take size, and the steps to fill it, before the value is built.

        Raises:
            ResourceLimit: There is not so much left.
        """
        left = self._size_left = self._size_left - size
        if left < 0:
            raise ResourceLimit("the values that it builds are too big")
        self.spend(size // SIZE_PER_STEP + 1)

    def scan(self, size: int) -> None:
        """Take the steps to work through that much, without building it."""
        self.spend(size // SIZE_PER_STEP + 1)

    def build_text(self, length: int) -> None:
        """Take the size of one text or bytes value of that length."""
        if length > self.limits.text:
            raise ResourceLimit(f"a text of more than {self.limits.text} characters")
        self.build(length)

    def build_items(self, count: int) -> None:
        """Take the size of one container of that many items."""
        if count > self.limits.items:
            raise ResourceLimit(f"more than {self.limits.items} items")
        self.build(8 * count)
        self.spend(count // ITEMS_PER_STEP)

    def integer(self, value: int) -> int:
        """The integer, if it is not too long; computing with long ones takes steps."""
        bits = value.bit_length()
        if bits > self.limits.integer_bits:
            self.refuse_integer()
        if bits > LONG_BITS:
            self.spend((bits // LONG_BITS) ** 2)
        return value

    def refuse_integer(self) -> NoReturn:
        """Say that an integer is or would become too long."""
        raise ResourceLimit(f"an integer of more than {self.limits.integer_bits} bits")

    def pause(self) -> float | None:
        """When exposed code begins, whose time is not counted; ``None`` if no time is yet."""
        return None if self._deadline is None else self._clock.monotonic()

    def resume(self, began: float | None) -> None:
        """Exposed code has ended that began at `pause`."""
        if self._deadline is not None and began is not None:
            self._deadline += self._clock.monotonic() - began

    def _look(self, left: int) -> None:
        if left < 0:
            raise ResourceLimit(f"more than {self.limits.steps} steps")
        now = self._clock.monotonic()
        if self._deadline is None:
            self._deadline = now + self.limits.seconds
        elif now > self._deadline:
            raise ResourceLimit(f"more than {self.limits.seconds} seconds")
        self._look_at = max(left - LOOK_EVERY, 0)
        if self._give_way is not None:
            began = self.pause()
            self._give_way()
            self.resume(began)
