# SPDX-License-Identifier: ZPL-2.1
"""Pyramid owns the transaction: pyramid_tm, pyramid_zodbconn and pyramid_retry as installed."""

from __future__ import annotations

import warnings

import pytest
from repoze.tm import TM
from transaction import TransactionManager
from webob import Request
from ZODB.POSException import ConflictError

from wsgi_zasync import ConfigurationError, TransactionOver, get_manager
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.web.waiting import WaitingGate

with warnings.catch_warnings():
    # pyramid 2.1 imports pkg_resources.
    warnings.simplefilter("ignore")
    from pyramid.config import Configurator
    from pyramid.httpexceptions import HTTPFound
    from pyramid.response import Response
    from pyramid_zodbconn import get_connection

pytestmark = pytest.mark.timeout(60)


class Site:
    """A Pyramid application with one view, behind the middleware."""

    def __init__(self, tmp_path, view, *, explicit, zodbconn=True, prepare=None, **settings):
        options = {"retry.attempts": "3"}
        if explicit:
            options["tm.manager_hook"] = "pyramid_tm.explicit_manager"
        if zodbconn:
            options["zodbconn.uri"] = f"file://{tmp_path}/Site.fs"
        options |= settings.pop("options", {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = Configurator(settings=options)
            config.include("pyramid_retry")
            config.include("pyramid_tm")
            if zodbconn:
                config.include("pyramid_zodbconn")
            config.add_route("any", "/*path")
            config.add_view(view, route_name="any")
            if prepare is not None:
                prepare(config)
            app = config.make_wsgi_app()
        self.databases = getattr(app.registry, "_zodb_databases", {})
        settings = {"plugins": {"echo": lambda attempt, value=None: value}, **settings}
        self.application = CallManagerMiddleware(app, **settings)

    @property
    def db(self):
        return self.databases[""]

    def get(self, path="/"):
        request = Request.blank(path)
        request.environ["REMOTE_USER"] = "ann"
        return request.get_response(self.application)


@pytest.fixture(params=[True, False], ids=["explicit", "thread-local"])
def explicit(request):
    return request.param


@pytest.fixture
def site(tmp_path, explicit):
    """Make a site; its databases are closed at the end."""
    made = []

    def make(view, **settings):
        made.append(Site(tmp_path, view, explicit=explicit, **settings))
        return made[-1]

    yield make
    for each in made:
        for database in each.databases.values():
            database.close()


def put(request, *args):
    return get_manager(request.environ).put("echo", *args)


def test_the_call_commits_with_pyramids_transaction(site, stored_ids, root_of):
    def view(request):
        get_connection(request).root()["note"] = "written"
        return Response(put(request).id)

    made = site(view)
    response = made.get()

    assert stored_ids(made.db) == [response.text]
    assert root_of(made.db, lambda root: root["note"]) == "written"


def test_the_connection_is_pyramids_even_if_it_opens_it_only_later(site, stored_ids, root_of):
    def view(request):
        calls = get_manager(request.environ)
        call = calls.put("echo")
        connection = get_connection(request)
        assert connection is calls.connection
        connection.root()["note"] = "written"
        return Response(call.id)

    made = site(view)
    made.get()

    assert len(stored_ids(made.db)) == 1
    assert root_of(made.db, lambda root: root["note"]) == "written"


def test_the_connection_is_found_where_pyramid_was_asked_before(site):
    def view(request):
        connection = get_connection(request)
        assert get_manager(request.environ).connection is connection
        return Response("fine")

    assert site(view).get().text == "fine"


def test_the_same_database_given_to_the_middleware_is_reached_by_pyramids_connection(
    site, stored_ids
):
    def view(request):
        call = put(request)
        assert get_manager(request.environ).connection is get_connection(request)
        get_connection(request).root()["note"] = "written"
        return Response(call.id)

    databases = []
    made = site(view, db=lambda: databases[0])
    databases.append(made.db)
    response = made.get()

    assert response.status_int == 200
    assert stored_ids(made.db) == [response.text]


@pytest.mark.parametrize(
    "end",
    ["raise", "doom", "redirect raised"],
)
def test_what_pyramid_aborts_has_no_call(site, stored_ids, end):
    def view(request):
        put(request)
        if end == "raise":
            raise ZeroDivisionError
        if end == "doom":
            request.tm.doom()
        if end == "redirect raised":
            raise HTTPFound("/elsewhere")
        return Response("fine")

    made = site(view)
    if end == "raise":
        with pytest.raises(ZeroDivisionError):
            made.get()
    else:
        made.get()

    assert stored_ids(made.db) == []


@pytest.mark.parametrize("veto", [True, False])
def test_a_status_vetoes_only_if_pyramid_is_told_so(site, stored_ids, veto):
    def view(request):
        put(request)
        return Response("sorry", status=500)

    options = {"tm.commit_veto": "pyramid_tm.default_commit_veto"} if veto else {}
    made = site(view, options=options)
    made.get()

    assert len(stored_ids(made.db)) == (0 if veto else 1)


def test_a_conflict_that_is_retried_leaves_one_call(site, stored_ids):
    told = []

    def view(request):
        told.append(put(request).id)
        if len(told) < 3:
            raise ConflictError
        return Response("fine")

    made = site(view)
    response = made.get()

    assert response.text == "fine"
    assert stored_ids(made.db) == [told[-1]]
    assert len(told) == 3


def test_a_conflict_of_the_commit_that_is_retried_leaves_one_call(site, stored_ids):
    told = []

    def view(request):
        told.append(put(request).id)
        root = get_connection(request).root()
        root["count"] = root.get("count", 0) + 1
        if len(told) < 3:
            with made.db.transaction() as other:
                other.root()["count"] = 10
        return Response("fine")

    made = site(view)
    response = made.get()

    assert response.text == "fine"
    assert stored_ids(made.db) == [told[-1]]
    assert len(told) == 3


def test_conflicts_until_no_attempt_is_left_leave_no_call(site, stored_ids):
    told = []

    def view(request):
        told.append(put(request).id)
        get_connection(request).root()["count"] = len(told)
        with made.db.transaction() as other:
            other.root()["count"] = 10
        return Response("fine")

    made = site(view)
    with pytest.raises(ConflictError):
        made.get()

    assert len(told) == 3
    assert stored_ids(made.db) == []


def test_a_principal_that_was_set_is_gone_with_the_attempt(site, stored_ids):
    seen = []

    def view(request):
        calls = get_manager(request.environ)
        seen.append(calls.principal.id)
        if len(seen) == 1:
            calls.principal = "bob"
            calls.put("echo")
            raise ConflictError
        calls.put("echo")
        return Response("fine")

    made = site(view)
    made.get()

    assert seen == ["ann", "ann"]
    assert stored_ids(made.db, "bob") == []
    assert len(stored_ids(made.db, "ann")) == 1


def test_a_tween_that_asks_who_it_is_before_pyramids_transaction_fails_nothing(site, stored_ids):
    # Given a tween over pyramid_tm
    def prepare(config):
        config.add_tween(f"{__name__}.asking_tween", over="pyramid_tm.tm_tween_factory")

    made = site(lambda request: Response(put(request).id), prepare=prepare)

    # When
    response = made.get()

    # Then
    assert response.status_int == 200
    assert stored_ids(made.db) == [response.text]


def test_a_failed_commit_is_pyramids_to_tell_and_has_no_call(site, stored_ids):
    def view(request):
        put(request)
        get_connection(request).root()["bad"] = lambda: None
        return Response("fine")

    made = site(view)
    with pytest.raises(Exception, match="pickle|lambda"):
        made.get()

    assert stored_ids(made.db) == []


def test_a_stream_that_fails_midway_keeps_the_call_that_was_committed_before(site, stored_ids):
    def view(request):
        def parts():
            yield b"first"
            raise ZeroDivisionError

        put(request)
        return Response(app_iter=parts())

    made = site(view)
    with pytest.raises(ZeroDivisionError):
        assert made.get().body

    # Pyramid commits before the first part is asked for.
    assert len(stored_ids(made.db)) == 1


def test_a_put_after_pyramids_commit_is_refused(site, stored_ids):
    refused = []

    def view(request):
        def parts():
            try:
                put(request)
            except TransactionOver as error:
                refused.append(error)
            yield b"fine"

        put(request)
        return Response(app_iter=parts())

    made = site(view)
    assert made.get().body == b"fine"

    assert len(refused) == 1
    assert len(stored_ids(made.db)) == 1


def test_without_zodbconn_the_middlewares_database_joins_pyramids_transaction(site, db, stored_ids):
    def view(request):
        call = put(request)
        if request.path == "/raise":
            raise ZeroDivisionError
        return Response(call.id)

    made = site(view, zodbconn=False, db=db)
    response = made.get()
    with pytest.raises(ZeroDivisionError):
        made.get("/raise")

    assert stored_ids(db) == [response.text]
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


def test_without_zodbconn_a_retried_conflict_leaves_one_call(site, db, stored_ids):
    told = []

    def view(request):
        told.append(put(request).id)
        if len(told) < 3:
            raise ConflictError
        return Response("fine")

    site(view, zodbconn=False, db=db).get()

    assert stored_ids(db) == [told[-1]]
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


def test_another_storage_of_the_middlewares_joins_beside_pyramids(site, db, stored_ids, root_of):
    def view(request):
        calls = get_manager(request.environ)
        call = calls.put("echo")
        assert calls.connection is get_connection(request)
        calls.root["note"] = "written"
        return Response(call.id)

    made = site(view, db=db)
    response = made.get()

    assert stored_ids(db) == [response.text]
    assert root_of(made.db, lambda root: root["note"]) == "written"
    assert root_of(made.db, lambda root: "wsgi_zasync" in root) is False
    assert made.get(f"/_zasync/calls/{response.text}").json["id"] == response.text


def test_a_database_named_zasync_holds_the_calls(site, tmp_path, stored_ids, root_of):
    def view(request):
        calls = get_manager(request.environ)
        calls.root["note"] = "written"
        return Response(calls.put("echo").id)

    made = site(view, options={"zodbconn.uri.zasync": f"file://{tmp_path}/Calls.fs"})
    response = made.get()

    assert stored_ids(made.databases["zasync"]) == [response.text]
    assert root_of(made.db, lambda root: "wsgi_zasync" in root) is False


def test_without_any_database_the_error_says_what_to_configure(site):
    def view(request):
        with pytest.raises(ConfigurationError, match=r"calls\.bind\(connection\).*zodb_uri"):
            put(request)
        return Response("fine")

    assert site(view, zodbconn=False).get().text == "fine"


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_second_connection_to_the_storage_fails_and_never_hangs(site, stored_ids, order):
    def view(request):
        second = made.db.open(transaction_manager=request.tm)
        request.add_finished_callback(lambda _: second.close())
        if order == "before":
            second.root()["second"] = True
            get_connection(request).root()["first"] = True
            with pytest.raises(ConfigurationError, match="two connections"):
                put(request)
            request.tm.doom()
        else:
            put(request)
            second.root()["second"] = True
        return Response("fine")

    made = site(view)
    if order == "before":
        made.get()
    else:
        with pytest.raises(ConfigurationError, match="two connections"):
            made.get()

    assert stored_ids(made.db) == []


def test_a_host_that_copies_the_environ_is_still_the_owner(site, stored_ids):
    def view(request):
        put(request)
        raise HTTPFound("/aborts")

    made = site(view)
    inner = made.application._app
    made.application._app = lambda environ, start_response: inner(dict(environ), start_response)
    made.get()

    assert stored_ids(made.db) == []


def test_an_application_that_a_view_asks_has_nothing_of_pyramids(site, wrap, db, stored_ids):
    # Given one with a transaction and a connection of its own, in a request of its own
    def inner(environ, start_response):
        manager = TransactionManager()
        connection = db.open(transaction_manager=manager)
        environ |= {"tm.active": True, "tm.manager": manager}
        call = put(Request(environ))
        manager.commit()
        connection.close()
        return Response(call.id)(environ, start_response)

    asked = wrap(inner, database=None)
    environ = {"REMOTE_USER": "ann"}

    made = site(lambda request: Response(Request.blank("/", environ).get_response(asked).text))
    response = made.get()

    assert stored_ids(db) == [response.text]


def test_serve_answers_for_the_user_whom_the_application_has_set(site, ask):
    def view(request):
        calls = get_manager(request.environ)
        calls.principal = "carol"
        if request.path.startswith("/_zasync"):
            return request.get_response(calls.serve)
        return Response(calls.put("echo").id)

    made = site(view)
    identifier = Request.blank("/").get_response(made.application).text
    response = Request.blank(f"/_zasync/calls/{identifier}").get_response(made.application)

    assert response.status_int == 200
    assert response.json["id"] == identifier
    assert response.json["links"]["self"] == f"/_zasync/calls/{identifier}"


def test_serve_finds_pyramids_database_before_anybody_has_put(site):
    def view(request):
        calls = get_manager(request.environ)
        calls.principal = "carol"
        return request.get_response(calls.serve)

    response = Request.blank("/_zasync/calls").get_response(site(view).application)

    assert response.json == {"calls": [], "next": None}


@pytest.mark.parametrize("named", [False, True])
def test_our_addresses_find_pyramids_database_before_anybody_has_put(site, tmp_path, named):
    made = {"zodbconn.uri.zasync": f"file://{tmp_path}/Calls.fs"} if named else {}
    fresh = site(lambda request: Response(put(request).id), options=made)

    assert fresh.get("/_zasync/calls").json == {"calls": [], "next": None}
    identifier = fresh.get().text
    assert fresh.get(f"/_zasync/calls/{identifier}").json["id"] == identifier


def test_pyramids_database_is_found_behind_another_filter(site):
    behind = site(lambda request: Response(put(request).id))
    behind.application._app = TM(TM(behind.application._app))

    assert behind.get("/_zasync/calls").json == {"calls": [], "next": None}


@pytest.mark.parametrize("exempt", [True, False])
def test_a_request_with_pyramids_transaction_is_not_kept_waiting(site, monkeypatch, exempt):
    waited = []

    class Gate(WaitingGate):
        def entered(self, owner):
            waited.append(owner)
            return super().entered(owner)

    monkeypatch.setattr("wsgi_zasync.middleware.WaitingGate", Gate)

    def view(request):
        calls = get_manager(request.environ)
        calls.principal = "carol"
        if request.path.startswith("/_zasync"):
            return request.get_response(calls.serve)
        return Response(calls.put("echo").id)

    options = {"tm.activate_hook": wants_a_transaction} if exempt else {}
    made = site(view, options=options)
    identifier = Request.blank("/").get_response(made.application).text
    path = f"/_zasync/calls/{identifier}?wait=0.01"
    response = Request.blank(path).get_response(made.application)

    assert response.json["state"] == "waiting"
    assert waited == ([("", "carol")] if exempt else [])


def wants_a_transaction(request):
    return not request.path_info.startswith("/_zasync")


def asking_tween(handler, registry):
    def tween(request):
        assert get_manager(request.environ).principal.id == "ann"
        return handler(request)

    return tween
