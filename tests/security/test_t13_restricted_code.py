# SPDX-License-Identifier: ZPL-2.1
"""T13: a script that somebody wrote through the web asks for calls, and others run it.

What AccessControl itself decides is tested with it where it is installed; everywhere else a
stand-in answers as it does.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from wsgi_zasync import Call, CallManager, Principal, Unauthorized, plugin
from wsgi_zasync.manager import get_manager
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import memory_db
from wsgi_zasync.web import zope

MANAGER_SHOWS = {"put", "options", "get", "mine", "count", "cancel", "forget"}
CALL_SHOWS = set(
    "id plugin args kwargs title owner state is_final waiting_reason created due expires started "
    "finished queue priority attempts progress result failure callbacks callbacks_failed "
    "cancel_requested to_dict on_success on_failure on_cancel on_any on_event cancel forget".split()
)

MALLORY = ("acl_users", "mallory")


@plugin("open", restricted=True)
def opened(attempt, value=None):
    return value


@plugin("guarded", restricted=True, permission="edit")
def guarded(attempt):
    return None


def closed(attempt):
    return None


@pytest.fixture
def db():
    database = memory_db()
    yield database
    database.close()


class Script:
    """A through-the-web script as AccessControl knows it: an executable that may have an owner."""

    def __init__(self, owner=None):
        self.owner = owner

    def getOwner(self):
        return None if self.owner is None else SimpleNamespace(name=self.owner[1])

    def getOwnerTuple(self):
        return None if self.owner is None else ([self.owner[0]], self.owner[1])


class Zope:
    """What AccessControl says of the thread: which executables run, and who may what."""

    def __init__(self):
        self.stack = []
        self.allowed = True
        self._context = self

    def calledByExecutable(self):
        return len(self.stack)

    def checkPermission(self, permission, executable):
        assert (permission, executable) == (zope.PERMISSION, self.stack[-1])
        return self.allowed


@pytest.fixture
def access_control(monkeypatch):
    management = ModuleType("AccessControl.SecurityManagement")
    found = Zope()
    management.getSecurityManager = lambda: found
    monkeypatch.setitem(sys.modules, management.__name__, management)
    return found


@pytest.fixture
def ask(db):
    """Let ``work`` use a manager in a request of ann's."""

    def request(work, **settings):
        def app(environ, start_response):
            answer.append(work(get_manager(environ)))
            start_response("200 OK", [])
            return []

        answer = []
        plugins = {"open": opened, "guarded": guarded, "closed": closed}
        site = CallManagerMiddleware(app, db, plugins=plugins, **settings)
        site({"PATH_INFO": "/", "REMOTE_USER": "ann"}, lambda *response: None)
        return answer[0]

    return request


def stored(db):
    """Each call's plugin, who has it put, and the authors of its callbacks."""
    with db.transaction() as connection:
        return [
            (record.plugin, record.author, [each.author for each in record.all_callbacks()])
            for record in open_store(connection).oldest(("", "ann"))
        ]


def test_what_is_shown_of_manager_and_call_is_listed():
    table = "__allow_access_to_unprotected_subobjects__"

    assert set(getattr(CallManager, table)) == MANAGER_SHOWS
    assert set(getattr(Call, table)) == CALL_SHOWS


def test_a_script_puts_in_its_authors_name_too(access_control, ask, db):
    access_control.stack.append(Script(MALLORY))

    ask(lambda calls: calls.put("open").on_success("string:done"))

    assert stored(db) == [("open", MALLORY, [MALLORY])]


def test_a_script_cannot_say_that_somebody_else_wrote_it(access_control, ask, db):
    access_control.stack.append(Script(MALLORY))

    ask(lambda calls: calls.options(author=Principal("ann")).put("open").on_any("string:done"))

    assert stored(db) == [("open", MALLORY, [MALLORY])]


def test_a_call_that_the_application_put_is_given_a_callback_by_a_script(access_control, ask, db):
    def work(calls):
        call = calls.put("closed")
        access_control.stack.append(Script(MALLORY))
        call.on_any("string:done")

    ask(work)

    assert stored(db) == [("closed", None, [MALLORY])]


@pytest.mark.parametrize(
    ("name", "allowed", "says"),
    [
        ("closed", True, "restricted = yes"),
        ("guarded", True, "'mallory' needs the permission 'edit'"),
        ("open", False, zope.PERMISSION),
    ],
)
def test_what_a_script_may_not_put_is_not_put(access_control, ask, db, name, allowed, says):
    access_control.stack.append(Script(MALLORY))
    access_control.allowed = allowed

    def work(calls):
        with pytest.raises(Unauthorized, match=says):
            calls.put(name)

    ask(work, permissions={"edit": ["user:ann"]})

    assert stored(db) == []


def test_a_callback_needs_the_permission_as_a_put_does(access_control, ask, db):
    def work(calls):
        call = calls.put("open")
        access_control.stack.append(Script(MALLORY))
        access_control.allowed = False
        with pytest.raises(Unauthorized, match=zope.PERMISSION):
            call.on_success("string:done")

    ask(work)

    assert stored(db) == [("open", None, [])]


@pytest.mark.parametrize("stack", [[], [Script()]], ids=["nothing", "a template of a product"])
def test_code_from_the_file_system_is_the_applications(access_control, ask, db, stack):
    access_control.stack.extend(stack)

    ask(lambda calls: calls.put("closed").on_success("string:done"))

    assert stored(db) == [("closed", None, [None])]


def test_an_author_that_is_given_is_that_of_texts_for_each_of_ones_calls(ask, db):
    def work(calls):
        calls.put("open")
        calls.options(author=Principal("mallory", "acl_users")).mine()[0].on_any("string:done")

    ask(work)

    assert stored(db) == [("open", None, [MALLORY])]


def test_zopes_managers_can_grant_the_permission(monkeypatch, ask):
    registered = []
    permissions = ModuleType("AccessControl.Permission")
    permissions.addPermission = lambda *permission: registered.append(permission)
    monkeypatch.setitem(sys.modules, permissions.__name__, permissions)

    ask(lambda calls: None)

    assert registered == [(zope.PERMISSION, ("Manager",))]


# -- AccessControl itself ------------------------------------------------------------------------


def seen_by_scripts(value):
    guards = pytest.importorskip("AccessControl.ZopeGuards")
    errors = pytest.importorskip("zExceptions")
    seen = set()
    for name in dir(value):
        try:
            guards.guarded_getattr(value, name)
        except errors.Unauthorized:
            continue
        except Exception:
            # It is reached: a result that is not there yet.
            pass
        seen.add(name)
    return seen


def test_accesscontrol_shows_what_is_listed_and_nothing_else(ask):
    def work(calls):
        call = calls.put("open", 1).on_any("string:done")
        assert seen_by_scripts(calls) == MANAGER_SHOWS
        assert seen_by_scripts(call) == CALL_SHOWS
        assert seen_by_scripts(call.owner) == {"id", "source", "title", "roles"}
        assert seen_by_scripts(call.progress) == {"fraction", "message"}
        assert seen_by_scripts(call.callbacks[0]) == {"on", "text", "state", "value", "error"}

    ask(work)
