# SPDX-License-Identifier: ZPL-2.1
"""A call as its owner holds it: what it says of its end, and what is left once it is forgotten."""

from __future__ import annotations

import pytest

from wsgi_zasync import (
    CallCancelled,
    CallExpired,
    CallFailed,
    CallNotFinal,
    CallNotFound,
    CallState,
    plugin,
)
from wsgi_zasync.manager.putting import Lineage
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db, run_calls


def _fail(attempt):
    raise ValueError("no luck")


PLUGINS = {"echo": plugin("echo")(lambda attempt, value=None: value), "fail": plugin("fail")(_fail)}


class Site:
    def __init__(self):
        self.db = memory_db()
        self.clock = FakeClock()
        self.deployment = deployment_of(PLUGINS, clock=self.clock)

    def calls(self, **more):
        return calls_of(self.db, "ann", self.deployment, **more)

    def put(self, *args, **options):
        with self.calls() as calls:
            return calls.options(**options).put(*args).id

    def run(self):
        run_calls(self.db, PLUGINS, clock=self.clock)


@pytest.fixture
def site():
    site = Site()
    yield site
    site.db.close()


# -- the result of a call that has none ----------------------------------------------------------


def test_the_result_of_a_call_that_has_none_says_why(site):
    failed, cancelled, expired = site.put("fail"), site.put("echo"), site.put("echo", expires=60)
    with site.calls() as calls:
        calls.cancel(cancelled)
        with pytest.raises(CallNotFinal, match="waiting"):
            calls.get(failed).result
    site.clock.advance(60)
    site.run()

    with site.calls() as calls:
        with pytest.raises(CallFailed, match="ValueError: no luck") as raised:
            calls.get(failed).result
        assert raised.value.failure == calls.get(failed).failure
        with pytest.raises(CallCancelled, match=cancelled):
            calls.get(cancelled).result
        with pytest.raises(CallExpired, match=expired):
            calls.get(expired).result
        assert calls.get(expired).state == CallState.EXPIRED


# -- lists in parts ------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_list_goes_on_behind_the_last_call_of_the_part_before(site, newest_first):
    put = []
    for number in range(5):
        put.append(site.put("echo", number))
        site.clock.advance(1)
    with site.calls() as calls:
        found, after = [], None
        for _ in range(4):
            found += [c.id for c in calls.mine(newest_first=newest_first, limit=2, after=after)]
            after = found[-1]
    assert found == (put[::-1] if newest_first else put)


# -- forgotten -----------------------------------------------------------------------------------


def test_what_was_sent_to_a_call_is_gone_with_it(site):
    """And what was sent to its neighbours, which share its mailbox, is not."""
    call, other = site.put("echo"), site.put("echo")
    with site.calls() as calls:
        calls.get(call).send("a canary")
        calls.get(other).send("a message")
    site.run()
    with site.calls() as calls:
        mailbox = calls.get(call)._record.mailbox
        calls.forget(call)
        assert "canary" not in repr(mailbox.mail)
        store = open_store(calls.connection)
        assert store.mail(calls.get(other)._record).messages == ("a message",)


def test_nothing_is_left_of_a_forgotten_call_but_that_there_was_one(site):
    with site.calls() as calls:
        call = calls.options(title="a canary").put("echo", "a canary")
        call.on_any("string:a canary").on_any("name", name="a canary")
    site.run()
    with site.calls() as calls:
        record = calls.get(call.id)._record
        calls.forget(call.id)
    with site.calls() as calls:
        found = calls.connection.get(record._p_oid)
        assert found.forgotten
        assert "canary" not in repr(found.__dict__)
        assert open_store(calls.connection).tally(("", "ann")).bytes == 0


def test_what_is_bound_to_a_call_counts_for_its_owner_whichever_was_put_last(site):
    with site.calls() as calls:
        first, last = calls.put("echo", 1), calls.put("echo", 2)
        for call in (first, last, first):
            call.on_any("string:${text}", text="x" * 1_000)
    with site.calls() as calls:
        sizes = [call._record.size for call in calls.mine()]
        assert open_store(calls.connection).tally(("", "ann")).bytes == sum(sizes) > 3_000


def test_a_call_is_forgotten_once(site):
    call = site.put("echo")
    site.run()
    with site.calls() as calls:
        held = calls.get(call)
        held.forget()
        with pytest.raises(CallNotFound):
            held.forget()
        with pytest.raises(CallNotFound):
            calls.forget(call)
        assert calls.count() == calls.count("succeeded") == 0


def test_how_many_descend_from_a_call_is_forgotten_with_it_and_not_with_them(site):
    first = site.put("echo")
    with site.calls(lineage=Lineage(1, first)) as calls:
        child = calls.put("echo").id
    site.run()

    def descendants(calls):
        return open_store(calls.connection).descendants(first)

    with site.calls() as calls:
        calls.forget(child)
        assert descendants(calls) == 1
        calls.forget(first)
        assert descendants(calls) == 0
