# SPDX-License-Identifier: ZPL-2.1
"""Callbacks that take long: their call ends in one commit with them, and nobody waits for it."""

from __future__ import annotations

import pytest

from tests.integration.long_callbacks import EXHAUSTING, LONG, StartedSite
from wsgi_zasync.store import open_store
from wsgi_zasync.store.wakeup import signal_for


@pytest.fixture
def site(db):
    found = StartedSite(db)
    found.worker.start()
    yield found
    found.worker.stop(1)


def test_outcome_and_long_callback_are_one_commit(site, gate):
    _, oid = site.put("ann", LONG)
    assert gate.reached.wait(30)

    assert site.seen(oid)[:2] == ("waiting", "pending")

    gate.open.set()
    assert site.end_of(oid) == ("succeeded", "done", None)
    assert site.items() == (9000,)


def test_a_callback_that_uses_up_its_budget_fails_and_its_call_succeeds(site):
    _, oid = site.put("ann", EXHAUSTING)

    state, callback, error = site.end_of(oid)

    assert (state, callback) == ("succeeded", "failed")
    assert "ResourceLimit" in error


def test_nobody_waits_for_a_long_callback(site, gate):
    site.put("ann", EXHAUSTING)
    assert gate.reached.wait(30)

    others = [site.put(user, "python: result") for user in ("ann", "bob") for _ in range(5)]

    assert {site.end_of(oid)[:2] for _, oid in others} == {("succeeded", "done")}


def test_owners_take_turns(site, gate):
    first = site.put("ann", LONG.replace("9000", "8001"))
    assert gate.reached.wait(30)
    more = [site.put("ann", LONG.replace("9000", str(8002 + n))) for n in range(3)]
    bobs = site.put("bob", LONG)
    service = site.worker._service
    for _, oid in (*more, bobs):
        assert site.seen(oid)[0] == "waiting"
    with signal_for(site.db).watch(bobs[1]) as watch:
        while len(service.long) < 5:
            watch.wait(0.01)

    gate.open.set()

    for _, oid in (first, *more, bobs):
        assert site.end_of(oid)[:2] == ("succeeded", "done")
    assert site.items().index(9000) < 3


def test_who_was_taken_for_dead_meanwhile_ends_nothing(site, gate):
    _, oid = site.put("ann", LONG)
    assert gate.reached.wait(30)
    service = site.worker._service
    old = service.membership.area_oid

    with site.db.transaction() as connection:
        store = open_store(connection)
        rescuer = store.register_worker("rescuer", {}, ("default",))
        connection.add(rescuer)
        store.take_over(rescuer, connection.get(old))
        rescuer.board.released = True
    gate.open.set()

    # The same worker, under a new area, takes what was left there, and ends it once.
    assert site.end_of(oid, 60)[:2] == ("succeeded", "done")
    assert site.items() == (9000,)
    assert service.membership.area_oid != old


def test_effects_outcome_and_long_callback_of_a_transaction_are_one_commit(site, gate):
    _, oid = site.put("ann", LONG, "write")
    assert gate.reached.wait(30)

    assert site.seen(oid)[:2] == ("waiting", "pending")
    assert site.items() == ()

    gate.open.set()
    assert site.end_of(oid) == ("succeeded", "done", None)
    assert site.items() == ("written", 9000)


def test_a_text_that_has_used_up_its_budget_once_is_not_tried_in_front_of_others(site, gate):
    gate.open.set()
    _, oid = site.put("ann", EXHAUSTING)
    site.end_of(oid)
    evaluation = site.worker._service.acceptor._completion._evaluation
    assert list(evaluation._long) == [EXHAUSTING]

    _, oid = site.put("ann", EXHAUSTING)

    assert site.end_of(oid)[:2] == ("succeeded", "failed")


def test_a_worker_that_steps_ends_long_callbacks_in_its_turn(db):
    site = StartedSite(db)
    _, oid = site.put("ann", LONG)

    assert site.worker.run_once() == 1

    assert site.seen(oid) == ("succeeded", "done", None)
    site.worker.stop()


def test_a_worker_that_stops_waits_for_what_is_in_line(site):
    ended = [site.put("ann", LONG)[1] for _ in range(3)]
    for oid in ended:
        site.end_of(oid)
    _, oid = site.put("ann", EXHAUSTING)
    with signal_for(site.db).watch(oid) as watch:
        while not len(site.worker._service.long) and site.seen(oid)[0] == "waiting":
            watch.wait(0.01)

    site.worker.stop(30)

    assert site.seen(oid)[:2] == ("succeeded", "failed")
    assert site.items() == (9000, 9000, 9000)
