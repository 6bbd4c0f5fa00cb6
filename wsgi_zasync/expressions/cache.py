# SPDX-License-Identifier: ZPL-2.1
"""Compiled expressions by their text, at most so many characters of them.

One for the process, used by every thread; what it holds is immutable.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class TextCache(Generic[T]):
    """The least recently used texts go first when there are too many characters."""

    def __init__(self, characters: int) -> None:
        self._lock = threading.Lock()
        self._bound = characters
        self._characters = 0
        self._found: OrderedDict[tuple[str, object], T] = OrderedDict()

    def get(self, text: str, key: object, make: Callable[[], T]) -> T:
        """What belongs to the text and the key, made if it is not known."""
        place = (text, key)
        with self._lock:
            found = self._found.get(place)
            if found is not None:
                self._found.move_to_end(place)
                return found
        made = make()
        with self._lock:
            if place not in self._found:
                self._found[place] = made
                self._characters += len(text)
            while self._characters > self._bound:
                (old, _), _ = self._found.popitem(last=False)
                self._characters -= len(old)
        return made

    def __len__(self) -> int:
        """How many texts are held."""
        return len(self._found)
