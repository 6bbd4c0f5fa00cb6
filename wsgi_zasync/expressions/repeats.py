# SPDX-License-Identifier: ZPL-2.1
"""``repeat`` inside a template: where each of its loops is.

Said as plain data, and only when somebody asks.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Repeats:
    """``repeat``: where each ``tal:repeat`` is, as data that expressions can read."""

    def __init__(self) -> None:
        #: Index and length, by name.
        self._places: dict[str, tuple[int, int]] = {}

    def __call__(self, names: Any, values: Any) -> tuple[Iterator[Any], int]:
        """Go over the values and keep count; the generated code calls this."""
        items = list(values) if values is not None else []
        return self._counted(names if type(names) is str else "/".join(names), items), len(items)

    def _counted(self, name: str, items: list[Any]) -> Iterator[Any]:
        for index, item in enumerate(items):
            self._places[name] = (index, len(items))
            yield item

    def positions(self) -> dict[str, dict[str, Any]]:
        """What ``repeat`` is at this moment."""
        return {name: _position(*place) for name, place in self._places.items()}


def _position(index: int, length: int) -> dict[str, Any]:
    letter, roman = _letter(index), _roman(index + 1)
    return {
        "index": index, "number": index + 1, "length": length, "start": index == 0,
        "end": index == length - 1, "even": index % 2 == 0, "odd": index % 2 == 1,
        "letter": letter, "Letter": letter.upper(), "roman": roman, "Roman": roman.upper(),
    }  # fmt: skip


def _letter(index: int) -> str:
    """a, b, … z, ba, as TAL counts."""
    rest, last = divmod(index, 26)
    return (_letter(rest) if rest else "") + chr(ord("a") + last)


def _roman(number: int) -> str:
    text = "m" * (number // 1000)
    for one, five, ten, value in ("c", "d", "m", 100), ("x", "l", "c", 10), ("i", "v", "x", 1):
        digit = number // value % 10
        text += (
            "", one, one * 2, one * 3, one + five, five, five + one, five + one * 2,
            five + one * 3, one + ten,
        )[digit]  # fmt: skip
    return text
