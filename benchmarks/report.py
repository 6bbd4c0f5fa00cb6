# SPDX-License-Identifier: ZPL-2.1
"""How a figure is written down: what, the ratio, the goal, the absolutes."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One line of the report."""

    what: str
    value: str
    goal: str
    absolutes: str = ""


def show(title: str, figures: Iterable[Figure]) -> None:
    """Print a table."""
    rows = [("", "measured", "goal", "absolutes")]
    rows += [(f.what, f.value, f.goal, f.absolutes) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    print(f"\n{title}")
    for row in rows:
        print("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)))


def micros(samples: list[float]) -> str:
    """Median and 99th percentile of seconds, in microseconds."""
    ordered = sorted(samples)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * 1e6:,.0f} µs, p99 {p99 * 1e6:,.0f} µs"
