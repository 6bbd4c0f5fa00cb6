# SPDX-License-Identifier: ZPL-2.1
"""The process of a Zope site: ``python -m tests.zope_instance.serving INSTANCE``.

Zope publishes behind the middleware, by the documented pipeline. Beside it are the addresses below
``/-/``, by which a test says what is to be there and sees what came of it.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path
from threading import Thread

import transaction
import waitress
import Zope2
from AccessControl.Permission import getPermissions
from AccessControl.SecurityManagement import newSecurityManager, noSecurityManager
from AccessControl.users import system
from OFS.DTMLMethod import DTMLMethod
from paste.deploy import loadapp
from Products.PageTemplates.ZopePageTemplate import ZopePageTemplate
from Products.PythonScripts.PythonScript import PythonScript
from webob import Request, Response
from Zope2.Startup.run import make_wsgi_app
from ZPublisher.HTTPRequest import WSGIRequest

from tests.zope_instance.views import SEEN, closed, opened
from wsgi_zasync import CallManagerMiddleware
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import memory_db
from wsgi_zasync.web.zope import PERMISSION
from wsgi_zasync.worker import Worker

#: The id of nobody's.
UNOWNED = ""


@cache
def zope(zope_conf):
    return make_wsgi_app({}, zope_conf)


def zope_factory(global_conf, zope_conf):
    """Zope, once a process, whatever is around it."""
    return zope(zope_conf)


class Site:
    """Everything that the process serves."""

    def __init__(self, instance: Path) -> None:
        paste = f"config:{instance}/paste.ini"
        main, published = loadapp(paste), loadapp(paste, "published")
        #: Of which Zope knows nothing.
        self.others = memory_db()
        apart = CallManagerMiddleware(
            published, self.others, plugins={"open": opened, "closed": closed}
        )
        self.pipelines = {"main": main, "apart": apart}
        for pipeline in self.pipelines.values():
            pipeline.start()
        self._root(self._make_role)

    def __call__(self, environ, start_response):
        request = Request(environ)
        first = request.path_info_peek()
        if first == "-":
            request.path_info_pop()
            answer = getattr(self, request.path_info_pop())(**request.json)
            return Response(json_body=answer)(environ, start_response)
        self.seen = environ[SEEN] = []
        if first in self.pipelines:
            request.path_info_pop()
            return self.pipelines[first](environ, start_response)
        return self.pipelines["main"](environ, start_response)

    # -- what a test says ------------------------------------------------------------------

    def user(self, name, roles, folder=None):
        """Somebody who can log in, there or in a folder; without roles, not any more."""

        def write(app):
            users = app.acl_users if folder is None else app[folder].acl_users
            if roles is None:
                users.userFolderDelUsers([name])
            else:
                users.userFolderAddUser(name, "secret", roles, [])

        self._root(write)

    def folder(self, id):
        """A folder with users of its own."""

        def write(app):
            app.manage_addFolder(id)
            app[id].manage_addUserFolder()

        self._root(write)

    def script(self, id, owner, text, proxy_roles=(), folder=None):
        """Something written through the web: a template where it begins like one.

        In ``folder``, whose users its owner is one of, if that is said.
        """

        def write(app):
            if text.startswith("<dtml"):
                made = DTMLMethod(text, __name__=id)
            elif text.startswith("<"):
                made = ZopePageTemplate(id, text)
            else:
                made = PythonScript(id)
                made.write(text)
            made._proxy_roles = tuple(proxy_roles)
            place = app if folder is None else app[folder]
            users = place.acl_users
            if owner == UNOWNED:
                noSecurityManager()
            else:
                newSecurityManager(None, users.getUserById(owner).__of__(users))
            place._setObject(id, made)

        self._root(write)

    def run(self):
        """Let a worker run what waits."""
        worker = Worker(Zope2.DB, plugins={"open": opened})
        try:
            return worker.run_once()
        finally:
            worker.stop()

    # -- what a test sees --------------------------------------------------------------------

    def stored(self, pipeline, owner):
        """The calls of an owner in a pipeline's database."""
        main = Zope2.DB.databases.get("zasync", Zope2.DB)
        database = {"main": main, "apart": self.others}[pipeline]
        with database.transaction() as connection:
            return [
                {
                    "id": record.id,
                    "plugin": record.plugin,
                    "author": record.author,
                    "callbacks": [each.author for each in record.all_callbacks()],
                }
                for record in open_store(connection).oldest(tuple(owner))
            ]

    def last_seen(self):
        """What the attempts of the last request have seen."""
        return self.seen

    def note(self):
        with Zope2.DB.transaction() as connection:
            return connection.root().get("note")

    def open_connections(self):
        databases = (Zope2.DB, self.others)
        return sum(1 for db in databases for info in db.connectionDebugInfo() if info["opened"])

    def permissions(self):
        """What Zope's managers can grant."""
        return self._root(lambda app: [name for name, *_ in app.ac_inherited_permissions(1)])

    def roles(self, permission):
        """Who has a permission where nobody has granted it."""
        return next(roles for name, _, roles in getPermissions() if name == permission)

    # -- inside ------------------------------------------------------------------------------

    def _make_role(self, app):
        app._addRole("Caller")
        app.manage_permission(PERMISSION, ["Manager", "Caller"], acquire=0)

    def _root(self, work):
        """Do something with Zope's root, as its system user, and commit that."""
        with transaction.manager:
            app = Zope2.app()
            newSecurityManager(None, system)
            try:
                return work(app)
            finally:
                noSecurityManager()
                transaction.manager.get().addAfterCommitHook(lambda _: app._p_jar.close())


def _end_with_the_tests() -> None:
    """Whose process, also one that was killed, closes the pipe."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    instance = Path(sys.argv[1])
    sys.path.insert(0, str(instance))
    # Zope waits before each further attempt, for up to seconds, so that others may get ahead.
    WSGIRequest.delay_retry = lambda request: None
    server = waitress.create_server(Site(instance), host="127.0.0.1", port=0, threads=2)
    Thread(target=_end_with_the_tests, daemon=True).start()
    print(f"http://127.0.0.1:{server.effective_port}", flush=True)
    server.run()


if __name__ == "__main__":
    main()
