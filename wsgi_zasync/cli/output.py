# SPDX-License-Identifier: ZPL-2.1
"""What is printed: names, titles and messages come from users, and a terminal obeys controls."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..clock import Clock
from ..escaping import escape_controls


def shown(value: object) -> str:
    """The value as text in one line, everything that a terminal would act on made visible."""
    return escape_controls(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows below their heading, in columns."""
    lines = [list(head)] + [[shown(value) for value in row] for row in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def counted(number: int, noun: str) -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ago(timestamp: float, clock: Clock) -> str:
    """How long ago a moment (seconds since 1970 UTC) was."""
    passed = max(0.0, clock.now().timestamp() - timestamp)
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= 2 * length:
            return f"{passed / length:.0f} {unit} ago"
    return f"{passed:.0f} s ago"
