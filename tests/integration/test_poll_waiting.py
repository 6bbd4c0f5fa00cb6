# SPDX-License-Identifier: ZPL-2.1
"""Long polls: told at once when there is news, holding nothing meanwhile, few at a time."""

from __future__ import annotations

import threading

import pytest
from webob import Request
from ZODB import DB
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import get_manager
from wsgi_zasync.store import open_store
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.web import poll as poll_module
from wsgi_zasync.worker import Worker

pytestmark = pytest.mark.timeout(60)

TEXT = [("Content-Type", "text/plain")]
PLUGINS = {"echo": lambda attempt, value=None: value}


@pytest.fixture
def db():
    """A database in memory: what is asked here does not depend on the storage."""
    database = DB(MappingStorage())
    yield database
    database.close()


class Site:
    """An application whose calls are waited for, in threads."""

    def __init__(self, db, wrap, ask, monkeypatch, **settings):
        def app(environ, start_response):
            calls = get_manager(environ)
            if environ["PATH_INFO"].startswith("/mounted"):
                if environ.get("app.reads"):
                    assert calls.root is not None
                environ = dict(environ, PATH_INFO=environ["PATH_INFO"].removeprefix("/mounted"))
                return calls.serve(environ, start_response)
            text = calls.put("echo").id if environ["PATH_INFO"] == "/put" else "a page"
            start_response("200 OK", TEXT)
            return [text.encode()]

        self.db = db
        self.application = wrap(app, plugins=PLUGINS, **settings)
        self._ask = ask
        self.answers = []
        self.threads = []
        #: Set by each poll that has begun to wait.
        self.waits = threading.Semaphore(0)
        self._tell_of_waits(monkeypatch)

    def _tell_of_waits(self, monkeypatch):
        signal_for = poll_module.signal_for
        waits = self.waits

        class Telling:
            def __init__(self, signal):
                self.signal = signal

            def watch(self, *oids):
                watch = self.signal.watch(*oids)
                wait = watch.wait

                def telling_wait(seconds):
                    waits.release()
                    return wait(seconds)

                watch.wait = telling_wait
                return watch

        monkeypatch.setattr(poll_module, "signal_for", lambda db: Telling(signal_for(db)))

    def put(self, user="ann"):
        return self._ask(self.application, "/put", user).text

    def get(self, identifier, query="", user="ann", prefix="", **options):
        path = f"{prefix}/_zasync/calls{'/' if identifier else ''}{identifier}{query}"
        return self._ask(self.application, path, user, **options)

    def wait(self, *args, **options):
        """Poll in a thread, and return when it waits."""

        def target():
            self.answers.append(self.get(*args, **options))

        thread = threading.Thread(target=target)
        thread.start()
        self.threads.append(thread)
        assert self.waits.acquire(timeout=20)

    def join(self):
        for thread in self.threads:
            thread.join(20)
            assert not thread.is_alive()

    def run(self):
        worker = Worker(self.db, plugins=PLUGINS)
        worker.run_once()
        worker.stop()

    def opened(self):
        return [c for c in self.db.connectionDebugInfo() if c["opened"]]


@pytest.fixture
def site(db, wrap, ask, monkeypatch):
    made = []

    def make(**settings):
        made.append(Site(db, wrap, ask, monkeypatch, **settings))
        return made[-1]

    yield make
    for each in made:
        each.join()


def test_a_poll_that_waits_is_answered_when_the_call_has_ended(site):
    made = site()
    identifier = made.put()

    made.wait(identifier, "?wait=20")
    made.run()
    made.join()

    assert made.answers[0].json["state"] == "succeeded"


def test_a_poll_that_waits_holds_no_connection(site):
    made = site()
    identifier = made.put()

    made.wait(identifier, "?wait=20")

    assert made.opened() == []
    made.run()


def test_a_poll_is_answered_when_its_time_is_up(site):
    made = site()
    identifier = made.put()

    response = made.get(identifier, "?wait=0.01")

    assert response.json["state"] == "waiting"
    assert response.headers["Retry-After"] == "1"


@pytest.mark.parametrize("query", ["?wait=99999", "?wait=1e9"])
def test_nobody_waits_longer_than_is_configured(site, query):
    made = site(wait_limit=0.01)

    assert made.get(made.put(), query).json["state"] == "waiting"


@pytest.mark.parametrize("wait", ["-1", "x", "", "nan", "inf", "1,5"])
def test_what_is_no_length_of_time_is_a_bad_request(site, wait):
    made = site()

    assert made.get(made.put(), f"?wait={wait}").status_int == 400


def test_a_final_call_is_not_waited_for(site):
    made = site()
    identifier = made.put()
    made.run()

    assert made.get(identifier, "?wait=20").json["state"] == "succeeded"
    assert not made.waits.acquire(blocking=False)


def test_a_poll_with_another_etag_is_answered_at_once(site):
    made = site()

    response = made.get(made.put(), "?wait=20", headers={"If-None-Match": '"another"'})

    assert response.status_int == 200
    assert not made.waits.acquire(blocking=False)


def test_a_poll_with_the_etag_waits_for_a_change(site):
    made = site()
    identifier = made.put()
    etag = made.get(identifier).headers["ETag"]

    response = made.get(identifier, "?wait=0.01", headers={"If-None-Match": etag})
    made.wait(identifier, "?wait=20", headers={"If-None-Match": etag})
    made.run()
    made.join()

    assert response.status_int == 304
    assert made.answers[0].json["state"] == "succeeded"


def test_a_poll_with_the_etag_is_told_of_progress(site, db):
    # Given a worker that has just begun the call
    made = site()
    identifier = made.put()
    with db.transaction() as connection:
        store = open_store(connection)
        area = store.register_worker("w1", {}, ("default",))
        record = store.find(("", "ann"), identifier)
        area.board.running = {record._p_oid: (1, 1, 0.25, "begun")}
    seen = made.get(identifier)
    assert seen.json["progress"] == {"fraction": 0.25, "message": "begun"}
    made.wait(identifier, "?wait=20", headers={"If-None-Match": seen.headers["ETag"]})

    # When its progress is told
    with db.transaction() as connection:
        (area,) = open_store(connection).areas()
        area.board.running = {record._p_oid: (1, 1, 0.5, "half")}
        oid = area.board._p_oid
    signal_for(db).announce([oid])
    made.join()

    # Then
    assert made.answers[0].json["progress"] == {"fraction": 0.5, "message": "half"}


def test_a_list_that_waits_is_answered_when_one_of_its_calls_has_ended(site):
    made = site(wait_limit=50)
    made.put()

    made.wait("", "?wait=50")
    made.run()
    made.join()

    assert [call["state"] for call in made.answers[0].json["calls"]] == ["succeeded"]


def test_a_list_in_which_nothing_will_change_is_not_waited_for(site):
    made = site()
    assert made.get("", "?wait=20").json["calls"] == []

    made.put()
    made.run()

    response = made.get("", "?wait=20")
    assert [call["state"] for call in response.json["calls"]] == ["succeeded"]
    assert "Retry-After" not in response.headers
    assert not made.waits.acquire(blocking=False)


def test_a_list_with_an_open_call_says_when_to_ask_again(site):
    made = site()
    made.put()

    assert made.get("", "?wait=0.01").headers["Retry-After"] == "1"


@pytest.mark.parametrize("before", [0, 1, 31, 32])
def test_a_list_with_the_etag_is_told_of_a_new_call(site, before):
    """Also of the first one, and of one that does not fit where the others are."""
    made = site(wait_limit=50)
    for _ in range(before):
        made.put()
    made.put("bob")
    etag = made.get("").headers["ETag"]

    made.wait("", "?wait=50", headers={"If-None-Match": etag})
    made.put()
    made.join()

    assert len(made.answers[0].json["calls"]) == before + 1


def test_a_list_with_the_etag_is_not_told_of_other_peoples_calls(site):
    made = site(wait_limit=50)
    made.put()
    etag = made.get("").headers["ETag"]

    made.wait("", "?wait=50", headers={"If-None-Match": etag})
    made.put("bob")
    made.put()
    made.join()

    assert len(made.answers[0].json["calls"]) == 2


def test_a_list_whose_last_call_is_forgotten_while_it_waits_says_so(site):
    made = site()
    last = made.put()
    made.put()
    path = f"?after={last}&wait=20"
    assert made.get("", path).json == {"calls": [], "next": None}


@pytest.mark.parametrize("wait", ["-1", "x"])
def test_a_list_is_waited_for_no_odd_length_of_time(site, wait):
    assert site().get("", f"?wait={wait}").status_int == 400


def test_a_poll_with_the_etag_is_told_of_a_worker_that_comes_later(site, db):
    # Given somebody who waits while there is no worker
    made = site()
    identifier = made.put()
    etag = made.get(identifier).headers["ETag"]
    made.wait(identifier, "?wait=20", headers={"If-None-Match": etag})

    # When one comes
    with db.transaction() as connection:
        store = open_store(connection)
        area = store.register_worker("w1", {}, ("default",))
        oid = store.find(("", "ann"), identifier)._p_oid
    signal_for(db).announce([area._p_oid, store.site.workers._p_oid])
    assert made.waits.acquire(timeout=20)
    assert made.answers == []

    # And begins the call
    with db.transaction() as connection:
        (area,) = open_store(connection).areas()
        area.board.running = {oid: (1, 1, 0.25, "begun")}
        board = area.board._p_oid
    signal_for(db).announce([board])
    made.join()

    # Then
    assert made.answers[0].json["state"] == "running"
    assert made.answers[0].json["progress"] == {"fraction": 0.25, "message": "begun"}


def test_a_poll_with_the_etag_is_told_by_a_worker_of_its_own_process(site, db):
    # Given somebody who waits for a call to begin
    made = site(wait_limit=50)
    identifier = made.put()
    etag = made.get(identifier).headers["ETag"]
    made.wait(identifier, "?wait=50", headers={"If-None-Match": etag})

    # When a worker beside the web runs it for a while
    ended = threading.Event()
    worker = Worker(db, plugins={"echo": lambda attempt: ended.wait(30)})
    worker.start()
    made.join()

    # Then that is told, long before the time is over
    assert made.answers[0].json["state"] == "running"
    ended.set()
    worker.stop()


def test_above_the_limit_the_answer_is_immediate(site):
    made = site()
    waiting, other = made.put("ann"), made.put("bob")
    made.wait(waiting, "?wait=20", user="ann")

    response = made.get(other, "?wait=20", user="bob")

    assert response.json["state"] == "waiting"
    assert response.headers["Retry-After"] == "1"
    made.run()


def test_an_owner_waits_once(site):
    made = site(waiters=5)
    one, two = made.put(), made.put()
    made.wait(one, "?wait=20")

    assert made.get(two, "?wait=20").json["state"] == "waiting"
    made.run()


def test_who_has_waited_makes_room(site):
    made = site()
    made.get(made.put("bob"), "?wait=0.01", user="bob")
    identifier = made.put("ann")

    made.wait(identifier, "?wait=20")
    made.run()
    made.join()

    assert made.answers[0].json["state"] == "succeeded"


def test_a_call_that_is_cancelled_meanwhile_is_news(site):
    made = site()
    identifier = made.put()
    made.wait(identifier, "?wait=20")

    headers = {"Origin": "http://localhost", "X-Zasync": "1", "Content-Type": "application/json"}
    made.get(identifier, method="DELETE", headers=headers)
    made.join()

    assert made.answers[0].json["state"] == "cancelled"


def test_many_who_wait_do_not_keep_others_waiting(site):
    made = site()
    identifier = made.put()
    made.wait(identifier, "?wait=20")

    answers = [made.get(identifier, "?wait=20") for _ in range(50)]
    page = Request.blank("/").get_response(made.application)

    assert page.text == "a page"
    assert {answer.json["state"] for answer in answers} == {"waiting"}
    made.run()


def test_a_host_that_serves_our_addresses_inside_lets_wait_as_well(site):
    made = site()
    identifier = made.put()

    made.wait(identifier, "?wait=20", prefix="/mounted")
    assert made.opened() == []
    made.run()
    made.join()

    assert made.answers[0].json["state"] == "succeeded"


def test_a_view_that_has_read_something_itself_is_not_kept_waiting(site):
    made = site()
    identifier = made.put()

    answer = made.get(identifier, "?wait=0.01", prefix="/mounted", environ={"app.reads": True})

    # It would hold its connection as long
    assert answer.json["state"] == "waiting"
    assert not made.waits.acquire(blocking=False)
