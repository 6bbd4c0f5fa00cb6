# SPDX-License-Identifier: ZPL-2.1
"""A put that nobody was told of is found all the same, by the poll that is there for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wsgi_zasync.opening import deployment_for
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db
from wsgi_zasync.worker.service import Service

PLUGINS = {"report.render": lambda attempt: "done"}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def db() -> Iterator[Any]:
    database = memory_db()
    yield database
    database.close()


@pytest.fixture
def service(db, clock) -> Iterator[Service]:
    settings = WorkerSettings.from_kwargs(db=db, plugins=PLUGINS, safety_poll=30)
    service = Service(db, deployment_for(settings, None, clock), settings, name="deaf")
    service.open()
    yield service
    service.dispatcher.stop(1.0)
    service.close()


def turns(service: Service) -> None:
    """Turn until there is nothing to do but to wait for a time."""
    while service.seconds_to_wait() == 0 or service.holdings.running:
        if service.holdings.running:
            service.bell.wait_for_report(10)
        service.turn()


def test_a_call_whose_signal_was_lost_is_found_by_the_safety_poll(db, clock, service):
    # Given a worker that has looked around, and hears nothing any more
    turns(service)
    service._unsubscribe()

    # When a call is put
    with calls_of(db, "ann", deployment_of(PLUGINS, clock=clock)) as calls:
        call = calls.put("report.render")

    # Then it waits
    turns(service)
    assert service.ended == 0

    # But no longer than until the next look
    clock.advance(30)
    turns(service)
    with calls_of(db, "ann", deployment_of(PLUGINS, clock=clock)) as calls:
        assert calls.get(call.id).result == "done"
