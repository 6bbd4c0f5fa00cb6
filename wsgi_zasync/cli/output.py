# SPDX-License-Identifier: ZPL-2.1
"""What is printed: names, titles and messages come from users, and a terminal obeys controls."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import TextIO

from ..clock import Clock
from ..lines import escape_controls


def open_standard_files() -> None:
    """Have somewhere to write to, and write whatever comes.

    Where a descriptor from 0 to 2 is closed the storage's files get its number, and what a
    plugin's own processes say would be written into them. Names and titles are of any script,
    whatever the terminal's encoding.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process lives
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115 - the same
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def write_no_more(stream: TextIO) -> None:
    """Have Python not complain at its end of what could not be written."""
    with suppress(io.UnsupportedOperation), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def tell(error: object) -> None:
    """Say what is wrong, in a line on stderr; where that cannot be, the exit code has to do."""
    with suppress(OSError):
        print(f"zasync: {shown(text_of(error))}", file=sys.stderr)


def text_of(error: object) -> str:
    """What an error says, or else what it is."""
    return str(error) or type(error).__name__


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


def ago(timestamp: float, clock: Clock) -> str:
    """How long ago a moment (seconds since 1970 UTC) was."""
    passed = max(0.0, clock.now().timestamp() - timestamp)
    for length, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if passed >= 2 * length:
            return f"{passed / length:.0f} {unit} ago"
    return f"{passed:.0f} s ago"
