# SPDX-License-Identifier: ZPL-2.1
"""What the site publishes: views that put calls, each in a way of its own, and answer JSON."""

from __future__ import annotations

import json

import transaction
from AccessControl import getSecurityManager
from Products.Five.browser import BrowserView
from Products.PageTemplates.PageTemplateFile import PageTemplateFile
from webob import Request
from zExceptions import Redirect
from zope.component import adapter
from ZPublisher.interfaces import IPubAfterTraversal, IPubFailure, IPubSuccess

from wsgi_zasync import (
    CallManagerMiddleware,
    Principal,
    TransactionOver,
    get_manager,
    plugin,
)
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import memory_db

#: Where the environ of a request has a list of what its attempts have seen.
SEEN = "tests.seen"


@plugin("open", restricted=True)
def opened(attempt, value=None):
    return value


@plugin("guarded", restricted=True, permission="edit")
def guarded(attempt):
    return None


@plugin("closed")
def closed(attempt):
    return None


@adapter(IPubAfterTraversal)
def see_who(event):
    """Who the call manager takes the request for, before anybody tells it."""
    calls = get_manager(event.request.environ)
    event.request.environ[SEEN].append(calls.principal and calls.principal.id)


@adapter(IPubSuccess)
def put_after_commit(event):
    """The transaction is over, and the connection still open."""
    if "late" in event.request.form:
        event.request.response.setHeader("X-Late", _put_too_late(event.request))


@adapter(IPubFailure)
def put_after_abort(event):
    if "late" in event.request.form:
        event.request.environ[SEEN].append(_put_too_late(event.request))


def _put_too_late(request):
    calls = get_manager(request.environ)
    try:
        calls.principal = "ann"
        calls.put("open")
    except TransactionOver:
        return "TransactionOver"
    return "put"


class View(BrowserView):
    """A view of a request that may ask for calls."""

    @property
    def calls(self):
        return get_manager(self.request.environ)

    def __call__(self):
        self.request.response.setHeader("Content-Type", "application/json")
        return json.dumps(self.answer())


class Put(View):
    def answer(self):
        self.calls.root["note"] = self.request.form.get("note")
        call = self.calls.put("closed").on_any("string:done")
        return {"id": call.id, "connection": self.calls.connection is self.context._p_jar}


class PutFolder(View):
    def answer(self):
        return self.calls.put("open", self.context.acl_users).on_success("string:done").id


class Doomed(View):
    def answer(self):
        transaction.doom()
        return self.calls.put("open").id


class Failing(View):
    def answer(self):
        self.calls.put("open")
        raise ValueError("no luck")


class Redirecting(View):
    def answer(self):
        self.calls.put("open")
        raise Redirect("/")


class RedirectingByHeader(View):
    def answer(self):
        self.request.response.redirect("/")
        return self.calls.put("open").id


class Conflicting(View):
    """Has two conflicts, and in its first attempt somebody else for the owner."""

    def answer(self):
        attempt = self.request.retry_count
        if attempt == 0:
            self.calls.principal = "bob"
        call = self.calls.put("open")
        self.calls.root["contended"] = attempt
        if attempt < 2:
            with self.calls.connection.db().transaction() as faster:
                faster.root()["contended"] = "by somebody who is faster"
        return {"id": call.id, "seen": self.request.environ[SEEN]}


class Committing(View):
    """Commits in the midst, as what has much to write may."""

    def answer(self):
        first = self.calls.put("open").id
        transaction.commit()
        self.calls.principal = Principal(getSecurityManager().getUser().getId(), "acl_users")
        return [first, self.calls.put("open").id]


class Within(View):
    """Makes a request of another application, which has a middleware of its own."""

    def answer(self):
        def put(environ, start_response):
            get_manager(environ).put("open")
            start_response("200 OK", [])
            return []

        db = memory_db()
        transaction.doom()
        application = CallManagerMiddleware(put, db, plugins={"open": opened})
        Request.blank("/", {"REMOTE_USER": "ann"}).get_response(application)
        with db.transaction() as connection:
            return len(list(open_store(connection).oldest(("", "ann"))))


class Trusting(View):
    """Does what it was written for, whoever has called it."""

    def answer(self):
        return self.calls.put("closed").id


class Rendering(BrowserView):
    """A template of the file system's that shows what it is given, and calls it for that."""

    template = PageTemplateFile("rendering.pt", globals())

    def __call__(self, given):
        return type(self).template.__of__(self.context)(given=given)


class HandingOver(View):
    """Hands a call of the application's to a script."""

    def answer(self):
        call = self.calls.put("closed")
        self.context[self.request.form["script"]](call)
        if "after" in self.request.form:
            call.on_any(self.request.form["after"])
        return call.id
