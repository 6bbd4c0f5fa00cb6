# SPDX-License-Identifier: ZPL-2.1
"""When a running call is to be on its worker's board."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from wsgi_zasync.worker.notices import (
    BEGINS_WITHIN_SECONDS,
    SHOWN_AFTER_SECONDS,
    first_shown_at,
)


def order(handed_out: float, begun: float | None) -> Any:
    return SimpleNamespace(handed_out=handed_out, begun=begun)


def test_nothing_that_runs_is_to_be_shown_never():
    assert first_shown_at([]) is None


def test_the_first_that_has_begun_is_to_be_shown_first():
    orders = [order(100.0, 107.0), order(101.0, 103.0)]

    assert first_shown_at(orders) == 103.0 + SHOWN_AFTER_SECONDS


def test_a_call_whose_thread_has_not_begun_it_yet_is_to_be_shown_as_well():
    # Else nobody looks at it again before the next sign of life, seconds later
    wanted = first_shown_at([order(100.0, None)])

    assert wanted == 100.0 + BEGINS_WITHIN_SECONDS + SHOWN_AFTER_SECONDS
