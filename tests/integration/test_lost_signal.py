# SPDX-License-Identifier: ZPL-2.1
"""A put that nobody was told of is found all the same, by the poll that is there for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wsgi_zasync.opening import deployment_for
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.store import open_store
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
    service.listener.close()

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


def test_a_put_that_is_told_of_before_it_is_seen_is_not_overlooked(db, clock, service, monkeypatch):
    """ZEO tells of a commit a moment before it can be seen."""
    deployment = deployment_of(PLUGINS, clock=clock)

    def put() -> bytes:
        with calls_of(db, "ann", deployment) as calls:
            oid: bytes = calls.put("report.render").oid
            return oid

    # Given an owner who puts again and again, and a worker that hears of other processes only
    for _ in range(3):
        put()
    turns(service)
    service.listener.close()
    first = put()
    with db.transaction() as connection:
        store = open_store(connection)
        (record,) = [call for call in store.newest(("", "ann")) if call._p_oid == first]
        lane, number, position = record.place
        segment = store.site.lanes[lane].owners["\0ann"].segments[number]
        following = segment.calls[position + 1]._p_oid

    # When it hears of the next put just after it was woken by one
    later, done = b"\x7f" * 8, []
    inner = service.bell.take_news

    def take_news() -> tuple[bool, bool, bytes | None]:
        service.bell.take_news = inner
        taken = inner()
        service.listener.told(later, frozenset({following}))
        return taken

    def until_visible(tid: bytes | None) -> None:
        if tid == later and not done:
            done.append(put())

    service.bell.take_news = take_news
    monkeypatch.setattr(service.listener.signal, "until_visible", until_visible)
    monkeypatch.setattr(service.listener.signal, "fetch", lambda oids, tid: None)
    service.listener.told(db.lastTransaction(), frozenset({first}))
    service.turn()
    if not done:
        done.append(put())
    assert done == [following]

    # Then it needs no poll to find that, too
    turns(service)
    assert service.ended == 5
