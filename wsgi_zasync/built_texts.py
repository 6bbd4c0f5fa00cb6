# SPDX-License-Identifier: ZPL-2.1
"""Expressions that look built from data, line of code by line of code.

A text is written once and its data is bound as names. A line that declares ever other texts most
likely formats data into them, and what a user wrote would then be code. That is worth a warning,
once; nothing is refused, since a table of expressions looks the same.

One object a process, used by all of its threads.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import CodeType, FrameType

logger = logging.getLogger(__name__)

#: How the names of this package's own modules begin.
_OURS = __name__.partition(".")[0] + "."


class BuiltTexts:
    """Counts the different texts that each line of the application's code declares."""

    #: More different texts than this are too many for one line of code.
    MOST = 50
    #: Lines remembered at a time.
    LINES = 1_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: By the place in the code (an instruction, cheaper to know than its line): the code,
        #: which keeps its id from being another's, and hashes of the texts, None once warned of.
        self._seen: dict[tuple[int, int], tuple[CodeType, set[int] | None]] = {}
        #: Hashes of all these texts: most are declared again and again, by the same line.
        self._known: set[int] = set()

    def note(self, text: str) -> None:
        """Note that the code which called us declares this text."""
        if hash(text) in self._known:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and _is_ours(frame):
            frame = frame.f_back
        if frame is None:
            return
        code, place = frame.f_code, (id(frame.f_code), frame.f_lasti)
        with self._lock:
            found = self._seen.get(place)
            if found is None:
                if len(self._seen) >= self.LINES:
                    self._seen.clear()
                    self._known.clear()
                found = self._seen[place] = (code, set())
            texts = found[1]
            if texts is None:
                return
            texts.add(hash(text))
            self._known.add(hash(text))
            if len(texts) <= self.MOST:
                return
            self._seen[place] = (code, None)
        logger.warning(
            "%s line %d has declared more than %d different expressions, which looks as if they "
            "were built from data: write one text and bind the data as names",
            code.co_filename,
            frame.f_lineno,
            self.MOST,
        )


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).startswith(_OURS)
