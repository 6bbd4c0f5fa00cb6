# SPDX-License-Identifier: ZPL-2.1
"""What workers make of it when the transaction of a put is undone, as Zope's Undo tab does it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import transaction
import ZODB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import UndoError

from tests.integration.stepping import Site, accept_only
from wsgi_zasync import CallNotFound
from wsgi_zasync.call import SEGMENT_SIZE
from wsgi_zasync.store import open_store
from wsgi_zasync.store.lanes import MOST_OPEN
from wsgi_zasync.store.parking import unreadable
from wsgi_zasync.testing import calls_of, deployment_of

#: Seconds after which a worker looks everywhere.
POLL = 31

#: How many calls ann has put before. Segments have room for 1, 4, and then 32 each: so the next one
#: makes its segment, goes into the middle of one, or is the last there.
MAKES, MIDDLE, LAST = [1, 5], [3, 6], [4, 36]


class UndoSite(Site):
    """Puts by one process, and takes puts back."""

    def __init__(self, path):
        super().__init__(ZODB.DB(FileStorage(str(path))))
        self.ran = []
        self.add("echo", lambda attempt, value=None: self.ran.append(value))
        self.deployment = deployment_of(self.plugins, clock=self.clock)
        self.ids = {}

    def calls(self, user="ann", **more):
        return calls_of(self.db, user, self.deployment, **more)

    def put(self, *names, user="ann", **options):
        """Put calls in one transaction; returns what it is undone by."""
        self.clock.advance(1)
        with self.calls(user) as calls:
            for name in names:
                self.ids[name] = calls.options(**options).put("echo", name).id
        return self.db.undoLog(0, 1)[0]["id"]

    def undo(self, tid):
        with transaction.TransactionManager(explicit=True) as txn:
            self.db.undo(tid, txn)

    def poll(self, service):
        """Let the worker look everywhere."""
        self.clock.advance(POLL)
        self.work(service)

    def states(self, *names):
        with self.calls() as calls:
            return [str(calls.get(self.ids[name]).state) for name in names]

    def check(self, *names, before=0):
        """These have run once, and are all that there is beside those of before."""
        assert sorted(self.ran) == sorted(names)
        assert self.states(*names) == ["succeeded"] * len(names)
        with self.calls() as calls:
            assert calls.count() == before + len(names) == len(calls.mine(limit=100))
            assert calls.count(state="waiting") == 0


@pytest.fixture
def site(tmp_path):
    site = UndoSite(tmp_path / "Data.fs")
    yield site
    site.close()


@pytest.fixture(params=MAKES + MIDDLE + LAST)
def before(request, site):
    """How many calls of ann's have ended."""
    helper = site.service("helper")
    for number in range(request.param):
        site.put(f"before{number}")
    while len(site.ran) < request.param:
        site.work(helper)
    helper.release()
    site.services.remove(helper)
    helper.dispatcher.stop(1)
    helper.close()
    site.ran.clear()
    return request.param


@pytest.mark.parametrize("before", MAKES, indirect=True)
def test_zodb_refuses_to_undo_what_others_were_put_into(site, before):
    tid = site.put("x")
    site.put("y")
    with pytest.raises(UndoError):
        site.undo(tid)
    service = site.service("first")
    site.work(service)
    site.check("x", "y", before=before)


@pytest.mark.parametrize(
    ("before", "names"),
    [*((number, ["x"]) for number in MIDDLE + LAST), (6, ["x", "x2", "x3"])],
    indirect=["before"],
)
@pytest.mark.parametrize("is_cold", [False, True])
def test_a_put_that_is_undone_before_a_worker_saw_it_holds_up_no_later_one(
    site, before, names, is_cold
):
    tid = site.put(*names)
    site.put("y")
    site.put("y2")
    site.undo(tid)
    with site.calls() as calls:
        assert "" not in [call.plugin for call in calls.mine()]
    if is_cold:
        # Nobody knows any more how many there were
        for connection in list(site.db.pool.all):
            connection._resetCache()
    service = site.service("first")
    site.poll(service)
    site.check("y", "y2", before=before)
    site.put("z")
    site.work(service)
    site.check("y", "y2", "z", before=before)


def test_a_put_that_is_undone_before_a_worker_saw_it_may_be_of_a_closed_segment(site):
    service = site.service("first")
    for number in range(6):
        site.put(f"b{number}")
    site.work(service)
    site.ran.clear()
    tid = site.put("x")
    site.put("y")
    # As many others open theirs as may be open
    for number in range(MOST_OPEN):
        site.put(f"s{number}", user=f"user{number}")
        site.put(f"t{number}", user=f"user{number}")
    site.undo(tid)
    site.put("z")
    site.work(service, turns=300)
    assert [name for name in site.ran if name[0] not in "st"] == ["y", "z"]


def test_a_put_that_is_undone_before_any_other_was_never_there(site, before):
    service = site.service("first")
    site.undo(site.put("x"))
    site.put("y")
    site.put("z")
    site.work(service)
    site.check("y", "z", before=before)


def test_a_put_whose_call_is_held_can_be_undone_and_another_put_instead(site, before):
    service = site.service("first")
    tid = site.put("x")
    accept_only(service)
    del service.dispatcher.room
    site.undo(tid)
    site.work(service)
    site.put("z")
    site.poll(service)
    site.put("z2")
    site.work(service)
    site.check("z", "z2", before=before)


def test_what_is_put_instead_of_a_held_call_runs_as_itself(site, before):
    service = site.service("first")
    tid = site.put("x")
    accept_only(service)
    del service.dispatcher.room
    site.undo(tid)
    site.put("z")
    site.poll(service)
    site.check("z", before=before)


def test_what_is_put_instead_of_a_call_that_runs_does_not_get_its_outcome(site, before):
    go_on, began = threading.Event(), threading.Event()

    def echo(attempt, value=None):
        began.set()
        assert go_on.wait(10)
        site.ran.append(value)
        return value

    site.add("echo", echo)
    service = site.service("first")
    tid = site.put("x")
    service.turn()
    assert began.wait(10)
    site.undo(tid)
    site.put("z")
    go_on.set()
    site.poll(service)
    assert site.ran == ["x", "z"]
    with site.calls() as calls:
        assert calls.get(site.ids["z"]).result == "z"
        assert calls.count() == before + 1
        with pytest.raises(CallNotFound):
            calls.get(site.ids["x"])


def test_who_takes_over_a_call_whose_put_was_undone_lets_it_go(site, before):
    dead = site.service("dead")
    tid = site.put("x")
    accept_only(dead)
    site.undo(tid)
    rescuer = site.service("rescuer")
    site.let_die(dead)
    with site.db.transaction() as connection:
        store = open_store(connection)
        assert all(not area.chunks for area in store.areas() if area.name == "rescuer")
    site.put("z")
    site.poll(rescuer)
    site.check("z", before=before)


@pytest.mark.parametrize("before", MIDDLE + LAST, indirect=True)
def test_a_delayed_call_can_be_undone(site, before):
    service = site.service("first")
    tid = site.put("x", begin_after=timedelta(hours=1))
    site.put("y", begin_after=timedelta(hours=1))
    site.work(service)
    site.undo(tid)
    site.clock.advance(3_700)
    site.work(service)
    site.put("z")
    site.poll(service)
    site.put("z2")
    site.work(service)
    assert sorted(site.ran) == ["y", "z", "z2"]


@pytest.mark.parametrize("is_seen", [False, True])
def test_what_is_put_instead_of_a_delayed_call_does_not_wait_for_its_time(site, before, is_seen):
    service = site.service("first")
    later = site.put("y", begin_after=timedelta(hours=1))
    tid = site.put("x", begin_after=timedelta(hours=1))
    site.work(service)
    site.undo(tid)
    site.undo(later)
    if is_seen:
        site.poll(service)
    site.put("z")
    site.put("z2", begin_after=timedelta(hours=2))
    site.poll(service)
    site.poll(service)
    assert site.ran == ["z"]
    site.clock.advance(7_200)
    site.work(service)
    site.check("z", "z2", before=before)


def test_the_place_of_an_undone_call_is_not_counted_as_unreadable(site):
    service = site.service("first")
    for number in range(3):
        site.put(f"b{number}")
    site.work(service)
    tid = site.put("x", begin_after=timedelta(hours=1))
    site.work(service)
    site.undo(tid)
    site.clock.advance(3_700)
    site.work(service)
    with site.db.transaction() as connection:
        store = open_store(connection)
        assert len(store.site.parked) == 1
        assert unreadable(store.site) == []


def test_bytes_of_an_undone_call_do_not_count(site):
    service = site.service("first")
    for number in range(3):
        site.put(f"b{number}")
    site.work(service)
    tid = site.put("x" * 1_000)
    site.put("y")
    site.undo(tid)
    site.poll(service)
    with site.db.transaction() as connection:
        store = open_store(connection)
        stored = store.tally(("", "ann")).bytes
        assert stored == sum(record.size for record in store.oldest(("", "ann")))


@pytest.mark.parametrize("in_the_log", [SEGMENT_SIZE - 1, SEGMENT_SIZE])
def test_the_log_may_be_taken_back_to_the_part_before(site, in_the_log):
    """A part of it that a worker has read is then not there any more."""
    service = site.service("first")
    for number in range(in_the_log):
        site.put(f"b{number}", user=f"user{number}")
        site.work(service)
    site.ran.clear()
    tid = site.put("x", begin_after=timedelta(hours=1), user="bob")
    site.work(service)
    site.undo(tid)
    site.work(service)
    site.put("z")
    site.put("z2", user="bob")
    site.work(service)
    assert site.ran == ["z", "z2"]


def test_an_opening_that_is_undone_is_made_again_for_later_ones(site):
    """Several entries of the log are taken back, and others come in their place."""
    service = site.service("first")
    site.put("b")
    site.work(service)
    site.ran.clear()
    tids = [
        site.put(f"x{number}", begin_after=timedelta(hours=1), user=f"user{number}")
        for number in range(3)
    ]
    site.work(service)
    for tid in reversed(tids):
        site.undo(tid)
    names = [f"z{number}" for number in range(5)]
    for name in names:
        site.put(name, user=name)
    site.work(service)
    assert sorted(site.ran) == names
