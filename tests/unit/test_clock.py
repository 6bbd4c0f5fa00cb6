# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from wsgi_zasync import ConfigurationError, InvalidArguments, Retry, RetryPolicy, plugin
from wsgi_zasync.clock import SystemClock, seconds
from wsgi_zasync.manager.options import PutOptions
from wsgi_zasync.settings import WorkerSettings


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


@pytest.mark.parametrize(
    "given",
    [
        lambda: Retry(delay=10**400),
        lambda: RetryPolicy(delay_seconds=10**400),
        lambda: plugin("render", timeout=10**400)(print),
        lambda: WorkerSettings.from_kwargs(db=object(), grace=10**400),
        lambda: PutOptions(timeout=10**400),
    ],
)
def test_a_duration_that_no_float_can_tell_is_refused_as_any_other_that_is_too_long(given):
    with pytest.raises((InvalidArguments, ConfigurationError)):
        given()
