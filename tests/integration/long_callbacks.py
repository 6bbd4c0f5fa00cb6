# SPDX-License-Identifier: ZPL-2.1
"""Callbacks that take long, a site whose worker is started to end them, and a gate to hold them."""

from __future__ import annotations

import threading

from tests.integration.shelves import Shelf
from wsgi_zasync import plugin
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.testing import calls_of, deployment_of
from wsgi_zasync.worker import Worker

#: Far more steps than others are made to wait for, and far fewer than there may be.
LONG = "python: shelf.add(len([n for n in range(9000)]))"
#: Uses up its budget.
EXHAUSTING = "python: [n for n in range(1000) for m in range(1000)]"

PLUGINS = {
    "echo": plugin("echo", runs="reactor")(lambda attempt, value=None: value),
    "write": plugin("write", runs="transaction")(
        lambda attempt: attempt.root["shelf"].add("written")
    ),
}
PERMISSIONS = {"edit": "role:editor"}
ROLES = {name: ["editor"] for name in ("ann", "bob")}


class StartedSite:
    """A database with a shelf, a worker to be started, and what it committed of which call."""

    def __init__(self, db, plugins=PLUGINS, **settings):
        self.db = db
        self.deployment = deployment_of(plugins)
        with self.calls("ann") as calls:
            calls.root["shelf"] = Shelf()
        tables = {"roles": ROLES, "permissions": PERMISSIONS}
        self.worker = Worker(db, plugins=plugins, safety_poll=600, **tables, **settings)

    def calls(self, user):
        return calls_of(self.db, user, self.deployment)

    def put(self, user, text, plugin_name="echo"):
        with self.calls(user) as calls:
            call = calls.put(plugin_name)
            names = {"shelf": calls.root["shelf"]} if "shelf" in text else {}
            call.on_success(text, **names)
            return call.id, call._record._p_oid

    def seen(self, oid):
        """State of the call, and of its callback."""
        with self.db.transaction() as connection:
            record = connection.get(oid)
            (callback,) = record.all_callbacks()
            return str(record.state), str(callback.state), callback.error

    def items(self):
        with self.db.transaction() as connection:
            return connection.root()["shelf"].items

    def end_of(self, oid, seconds=30):
        with signal_for(self.db).watch(oid) as watch:
            for _ in range(seconds * 4):
                state, callback, error = self.seen(oid)
                if state != "waiting":
                    return state, callback, error
                watch.wait(0.25)
        raise AssertionError("it did not end")


class Gate:
    """Holds long evaluations up where they let others go first."""

    def __init__(self):
        self.reached = threading.Event()
        self.open = threading.Event()

    def stand_aside(self, long):
        self.reached.set()
        assert self.open.wait(60)
