# SPDX-License-Identifier: ZPL-2.1
"""The middleware around applications: lazy, fork-safe, and quiet where it is not asked."""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import subprocess
import sys
import threading
import weakref
from contextlib import closing

import pytest
from webob import Request
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import (
    CallManager,
    CallManagerMiddleware,
    ConfigurationError,
    NotAuthenticated,
    TransactionOver,
    get_manager,
)
from wsgi_zasync.settings import MiddlewareSettings
from wsgi_zasync.worker import Worker

TEXT = [("Content-Type", "text/plain")]
SECRET = "env:ZASYNC_TEST_SECRET"


def echo(attempt, value=None):
    return value


@pytest.fixture
def db():
    database = DB(MappingStorage())
    yield database
    database.close()


def putting(environ, start_response):
    """Put a call, and answer with its id."""
    identifier = get_manager(environ).put("echo", 1).id
    start_response("200 OK", TEXT)
    return [identifier.encode()]


def quiet(environ, start_response):
    """Use no manager."""
    start_response("200 OK", TEXT)
    return [b"quiet"]


def ask(application, path="/", user="ann", **options):
    request = Request.blank(path, **options)
    if user is not None:
        request.environ["REMOTE_USER"] = user
    return request.get_response(application)


# -- the manager in the environ -----------------------------------------------------------


def test_each_request_has_a_manager_of_its_own(db):
    managers = []

    def app(environ, start_response):
        managers.append(get_manager(environ))
        return quiet(environ, start_response)

    application = CallManagerMiddleware(app, db)
    ask(application)
    ask(application)

    assert [type(manager) for manager in managers] == [CallManager, CallManager]
    assert managers[0] is not managers[1]


@pytest.mark.parametrize("forged", ["a parameter of uwsgi", None, object(), {}])
def test_what_is_no_manager_is_refused(forged):
    with pytest.raises(ConfigurationError, match="CallManagerMiddleware"):
        get_manager({"wsgi_zasync.manager": forged})


def test_what_a_server_has_put_in_its_place_is_replaced(db):
    application = CallManagerMiddleware(putting, db, plugins={"echo": echo})

    response = ask(application, environ={"wsgi_zasync.manager": "forged", "REMOTE_USER": "ann"})

    assert response.status_int == 200


def test_a_request_within_the_request_is_its_own_users(db):
    owners = []

    def app(environ, start_response):
        calls = get_manager(environ)
        # A request that the application makes of itself, as somebody else
        within = get_manager(dict(environ, REMOTE_USER="bob"))
        for manager in (within, within.options(title="x"), calls, get_manager(environ)):
            owners.append(manager.put("echo").owner.id)
        start_response("200 OK", TEXT)
        return []

    assert ask(CallManagerMiddleware(app, db, plugins={"echo": echo})).status_int == 200
    assert owners == ["bob", "bob", "ann", "ann"]


def test_two_middlewares_give_the_inner_one(db):
    outer_db = DB(MappingStorage())
    inner = CallManagerMiddleware(putting, db, plugins={"echo": echo})
    identifier = ask(CallManagerMiddleware(inner, outer_db, plugins={"echo": echo})).text

    assert ask(inner, f"/_zasync/calls/{identifier}").status_int == 200
    outer_db.close()


# -- lazy ---------------------------------------------------------------------------------


def test_no_database_is_opened_before_a_manager_is_used():
    opened = []

    def opener():
        opened.append(DB(MappingStorage()))
        return opened[-1]

    application = CallManagerMiddleware(
        lambda environ, start_response: (putting if environ["PATH_INFO"] == "/put" else quiet)(
            environ, start_response
        ),
        opener,
        plugins={"echo": echo},
    )

    ask(application)
    assert opened == []
    ask(application, "/put")
    assert len(opened) == 1
    opened[0].close()


def test_asking_for_the_user_opens_nothing(tmp_path):
    def app(environ, start_response):
        assert get_manager(environ).principal.id == "ann"
        return quiet(environ, start_response)

    application = CallManagerMiddleware(app, zodb_uri=f"file://{tmp_path}/Data.fs")

    assert ask(application).status_int == 200
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_opened_by_its_uri(tmp_path):
    application = CallManagerMiddleware(
        putting, zodb_uri=f"file://{tmp_path}/Data.fs", plugins={"echo": echo}
    )
    identifier = ask(application).text

    assert ask(application, f"/_zasync/calls/{identifier}").status_int == 200
    application.stop()
    with closing(FileStorage(str(tmp_path / "Data.fs"))) as storage:
        assert len(storage) > 0


def test_a_database_is_opened_by_its_zconfig_file(tmp_path):
    (tmp_path / "zodb.conf").write_text(
        f"<zodb>\n<filestorage>\npath {tmp_path}/Data.fs\n</filestorage>\n</zodb>\n"
    )
    application = CallManagerMiddleware(
        putting, zodb_conf=str(tmp_path / "zodb.conf"), plugins={"echo": echo}
    )

    assert ask(application).status_int == 200
    application.stop()


def test_a_file_that_another_process_has_open_is_named(tmp_path):
    path = tmp_path / "Data.fs"
    with closing(FileStorage(str(path))):
        application = CallManagerMiddleware(putting, zodb_uri=f"file://{path}")
        with pytest.raises(ConfigurationError, match="another process"):
            ask(application)


def test_a_uri_that_is_none_is_named():
    application = CallManagerMiddleware(putting, zodb_uri="nothing://x", secret="s" * 32)

    with pytest.raises(ConfigurationError, match="nothing://x"):
        ask(application)


# -- configuration --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"prefixx": "/x"}, "prefix"),
        ({"prefix": "no slash"}, "prefix"),
        ({"worker": "inside"}, "worker"),
        ({"db": "Data.fs"}, "ZODB.DB"),
        ({"db": 1, "zodb_uri": "file://x"}, "exclude"),
        ({"zodb_uri": "zeo://127.0.0.1:8100"}, "secret"),
        ({"identity": "nowhere:identify"}, "nowhere"),
        ({"anonymous": "session"}, "not available"),
        ({"waiters": -1}, "waiters"),
        ({"connection": 7}, "connection"),
        ({"identity_header": "X-User"}, "trusted_proxies"),
        ({"worker": "embedded"}, "zodb_uri"),
    ],
)
def test_a_wrong_key_is_an_error_that_names_it(settings, says):
    with pytest.raises(ConfigurationError, match=says):
        CallManagerMiddleware(quiet, **settings)


def test_settings_that_are_read_already_are_taken(db):
    settings = MiddlewareSettings.from_kwargs(db=db, plugins={"echo": echo})

    assert ask(CallManagerMiddleware.from_settings(putting, settings)).status_int == 200


def test_an_exception_of_identity_is_the_requests(db):
    def identity(environ):
        raise ConnectionError("the directory is down")

    application = CallManagerMiddleware(putting, db, plugins={"echo": echo}, identity=identity)

    with pytest.raises(ConnectionError):
        ask(application)
    with pytest.raises(ConnectionError):
        ask(application, "/_zasync/calls")


def test_a_put_of_nobody_is_refused(db):
    def app(environ, start_response):
        with pytest.raises(NotAuthenticated, match="log in"):
            get_manager(environ).put("echo")
        return quiet(environ, start_response)

    assert ask(CallManagerMiddleware(app, db, plugins={"echo": echo}), user=None).status_int == 200


# -- addresses of ours, where the application authenticates inside --------------------------------


def serving(user):
    """An application that knows its user by itself, and serves our addresses."""

    def app(environ, start_response):
        calls = get_manager(environ)
        calls.principal = user
        if environ["PATH_INFO"].startswith("/_zasync"):
            return calls.serve(environ, start_response)
        return putting(environ, start_response)

    return app


def test_an_application_that_authenticates_inside_serves_our_addresses(db):
    application = CallManagerMiddleware(serving("carol"), db, plugins={"echo": echo})
    identifier = ask(application, user=None).text

    response = ask(application, f"/_zasync/calls/{identifier}", user=None)

    assert response.json["owner"]["id"] == "carol"


def test_an_application_mounts_our_addresses_where_it_likes(db):
    def app(environ, start_response):
        calls = get_manager(environ)
        calls.principal = "carol"
        if environ["PATH_INFO"].startswith("/mine"):
            inner = dict(environ, SCRIPT_NAME="/mine", PATH_INFO=environ["PATH_INFO"][5:])
            return calls.serve(inner, start_response)
        return putting(environ, start_response)

    application = CallManagerMiddleware(app, db, plugins={"echo": echo})
    identifier = ask(application, user=None).text

    response = ask(application, f"/mine/calls/{identifier}", user=None)

    assert response.json["links"]["self"] == f"/mine/calls/{identifier}"


def test_links_lead_to_the_middleware_where_applications_are_mounted_within(db):
    # Given a dispatcher that writes in the environ, as those of Paste and Werkzeug do
    def inner(environ, start_response):
        links = get_manager(environ).put("echo").to_dict()["links"]
        start_response("200 OK", TEXT)
        return [links["self"].encode()]

    def dispatcher(environ, start_response):
        environ["SCRIPT_NAME"] += "/shop"
        environ["PATH_INFO"] = environ["PATH_INFO"].removeprefix("/shop")
        return inner(environ, start_response)

    application = CallManagerMiddleware(dispatcher, db, plugins={"echo": echo})

    # When it is mounted itself, or is not
    for mounted_at in ("", "/site"):
        link = ask(application, "/shop/order", environ={"SCRIPT_NAME": mounted_at}).text

        # Then
        assert link.startswith(f"{mounted_at}/_zasync/calls/")
        assert ask(application, link.removeprefix(mounted_at)).status_int == 200


def test_nobody_is_served_as_who_the_request_is_of_after_somebody_else_was_set(db):
    served = []

    def app(environ, start_response):
        calls = get_manager(environ)
        calls.principal = "carol"
        start_response("200 OK", TEXT)
        yield b"first"
        with pytest.raises(TransactionOver):
            calls.serve(environ | {"PATH_INFO": "/_zasync/calls"}, start_response)
        served.append(False)

    assert ask(CallManagerMiddleware(app, db), user="proxy").status_int == 200
    assert served == [False]


def test_our_own_identity_wins_over_the_application(db):
    application = CallManagerMiddleware(serving("carol"), db, plugins={"echo": echo})
    identifier = ask(application, user=None).text

    assert ask(application, f"/_zasync/calls/{identifier}", user="ann").status_int == 404


def test_nothing_else_that_the_application_says_there_is_passed_on(db):
    def app(environ, start_response):
        get_manager(environ).principal = "carol"
        get_manager(environ).put("echo")
        start_response("200 OK", [*TEXT, ("Set-Cookie", "a=b")])
        return [b"a page of the application"]

    application = CallManagerMiddleware(app, db, plugins={"echo": echo})
    response = ask(application, "/_zasync/calls/x", user=None)

    assert response.status_int == 404
    assert b"application" not in response.body
    assert "Set-Cookie" not in response.headers
    # and what it did there is not committed
    assert ask(application, "/_zasync/calls", user="carol").json["calls"] == []


def test_an_application_that_fails_there_is_not_found_either(db, caplog):
    def app(environ, start_response):
        raise ZeroDivisionError

    assert ask(CallManagerMiddleware(app, db), "/_zasync/calls/x", user=None).status_int == 404
    assert "failed at an address of ours" in caplog.text


def test_an_application_behind_a_configured_identity_is_not_asked(db):
    asked = []

    def app(environ, start_response):
        asked.append(environ["PATH_INFO"])
        return quiet(environ, start_response)

    application = CallManagerMiddleware(app, db, identity=lambda environ: None)

    assert ask(application, "/_zasync/calls/x").status_int == 404
    assert asked == []


# -- processes and threads ----------------------------------------------------------------------


def test_a_forked_process_opens_its_own_database(tmp_path):
    # Given a parent that has served a request, in a database that each process can open
    def opener():
        return DB(MappingStorage())

    application = CallManagerMiddleware(putting, opener, plugins={"echo": echo})
    first = ask(application).text
    process = application._process
    reader, writer = os.pipe()

    # When
    pid = os.fork()
    if pid == 0:
        try:
            identifier = ask(application).text
            told = (
                identifier,
                application._process is process,
                ask(application, f"/_zasync/calls/{identifier}").status_int,
                ask(application, f"/_zasync/calls/{first}").status_int,
            )
            os.write(writer, pickle.dumps(told))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        identifier, is_same, own, parents = pickle.loads(pipe.read())
    os.waitpid(pid, 0)

    # Then
    assert identifier != first
    assert is_same is False
    assert (own, parents) == (200, 404)
    assert ask(application, f"/_zasync/calls/{first}").status_int == 200
    application.stop()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_is_forked_while_another_thread_opens_the_database():
    # Given a thread that opens the database, and is at it
    parent = os.getpid()
    opening, may_go_on = threading.Event(), threading.Event()

    def opener():
        if os.getpid() == parent:
            opening.set()
            assert may_go_on.wait(30)
        return DB(MappingStorage())

    application = CallManagerMiddleware(putting, opener, plugins={"echo": echo})
    first = threading.Thread(target=ask, args=(application,))
    first.start()
    assert opening.wait(30)
    reader, writer = os.pipe()

    # When this one forks, and the child serves a request
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, str(ask(application).status_int).encode())
        finally:
            os._exit(0)
    os.close(writer)
    is_answered, _, _ = select.select([reader], [], [], 30)
    if not is_answered:
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    may_go_on.set()
    first.join()

    # Then it does not wait for a thread that it does not have
    assert os.read(reader, 10) == b"200"
    os.close(reader)
    application.stop()


def test_one_process_is_begun_by_many_threads_at_once(db):
    application = CallManagerMiddleware(putting, db, plugins={"echo": echo})
    together = threading.Barrier(8)
    found = []

    def first_request():
        together.wait()
        ask(application)
        found.append(application._process)

    threads = [threading.Thread(target=first_request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("app", [quiet, putting])
def test_a_request_is_freed_without_the_garbage_collector(db, app):
    managers = []

    def watched(environ, start_response):
        managers.append(weakref.ref(get_manager(environ)))
        return app(environ, start_response)

    application = CallManagerMiddleware(watched, db, plugins={"echo": echo})
    ask(application)
    gc.collect()
    gc.disable()
    try:
        environ = Request.blank("/").environ
        environ["REMOTE_USER"] = "ann"
        application(environ, lambda status, headers: None)
        del environ
        assert managers[-1]() is None
    finally:
        gc.enable()


# -- the embedded worker ---------------------------------------------------------------------------


@pytest.mark.parametrize("start", [True, False])
def test_an_embedded_worker_runs_what_was_put(tmp_path, start):
    application = CallManagerMiddleware(
        putting,
        zodb_uri=f"file://{tmp_path}/Data.fs",
        worker="embedded",
        plugins={"echo": echo},
    )
    try:
        if start:
            application.start()
        identifier = ask(application).text
        response = ask(application, f"/_zasync/calls/{identifier}?wait=20")
    finally:
        application.stop()

    assert response.json["state"] == "succeeded"
    assert response.json["result"] == 1


A_SITE_THAT_ENDS = """
import sys, threading
from webob import Request
from wsgi_zasync import CallManagerMiddleware, get_manager

begun, never = threading.Event(), threading.Event()

def long(attempt):
    begun.set()
    never.wait()

def putting(environ, start_response):
    get_manager(environ).put("long")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"put"]

site = CallManagerMiddleware(
    putting, zodb_uri=f"file://{sys.argv[1]}", worker="embedded", plugins={"long": long}
)
Request.blank("/", environ={"REMOTE_USER": "ann"}).get_response(site)
begun.wait()
"""


def test_what_runs_when_the_process_ends_is_given_back_and_waited_for_by_nobody(tmp_path):
    file = tmp_path / "Data.fs"
    ended = subprocess.run(
        [sys.executable, "-c", A_SITE_THAT_ENDS, str(file)], capture_output=True, text=True
    )
    worker = Worker(zodb_uri=f"file://{file}", plugins={"long": echo})
    try:
        # At once, without waiting until the one before it counts as dead.
        ran = worker.run_once()
    finally:
        worker.stop()

    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ran == 1


def test_a_storage_that_hangs_does_not_keep_a_process_that_leaves():
    voting, go_on = threading.Event(), threading.Event()

    class Hanging(MappingStorage):
        hangs = False

        def tpc_vote(self, transaction):
            if self.hangs:
                voting.set()
                go_on.wait()
            return super().tpc_vote(transaction)

    with closing(DB(Hanging())) as db:

        def hanging_up(attempt, value):
            db.storage.hangs = True

        worker = Worker(db, plugins={"echo": hanging_up})
        worker.start()
        try:
            ask(CallManagerMiddleware(putting, db, plugins={"echo": echo}))
            voting.wait()
            worker.leave(0.0)
            assert worker.is_running
        finally:
            go_on.set()
            worker.stop()


def test_starting_again_changes_nothing(db):
    application = CallManagerMiddleware(quiet, db)
    application.start()
    process = application._process
    application.start()

    assert application._process is process
    application.stop()
