# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from wsgi_zasync.clock import SystemClock, seconds


def test_the_wall_clock_is_aware_and_in_utc():
    assert SystemClock().now().tzinfo is UTC


def test_the_monotonic_clock_never_goes_back():
    clock = SystemClock()

    readings = [clock.monotonic() for _ in range(100)]

    assert readings == sorted(readings)


@pytest.mark.parametrize(
    ("given", "expected"), [(3, 3.0), (0.5, 0.5), (timedelta(minutes=2), 120.0)]
)
def test_durations_are_seconds_or_timedeltas(given, expected):
    length = seconds(given)

    assert length == expected
    assert type(length) is float
