# SPDX-License-Identifier: ZPL-2.1
"""A site in memory with workers that go on only when a test lets them."""

from __future__ import annotations

from functools import cached_property

from wsgi_zasync import plugin
from wsgi_zasync.opening import deployment_for, keys_for
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db
from wsgi_zasync.worker import Worker
from wsgi_zasync.worker.service import Service

#: The settings of a worker that requests have to know, too.
SHARED = ("policy", "exposed")


class Site:
    def __init__(self, db=None, **settings):
        self.db = memory_db() if db is None else db
        self.settings = settings
        self.clock = FakeClock()
        self.plugins = {}
        self.services = []

    def add(self, name, function, **declared):
        self.plugins[name] = plugin(name, **declared)(function)

    def keep(self, **objects):
        """Let the application's root have these objects."""
        with self.db.transaction() as connection:
            for name, kept in objects.items():
                connection.root()[name] = kept
                connection.add(kept)

    def calls(self, user="ann", **more):
        shared = {name: self.settings[name] for name in SHARED if name in self.settings}
        deployment = deployment_of(self.plugins, clock=self.clock, **shared)
        return calls_of(self.db, user, deployment, **more)

    def put(self, *args):
        with self.calls() as calls:
            return calls.put(*args).id

    def state(self, call):
        with self.calls() as calls:
            found = calls.get(call)
            return found.state

    @cached_property
    def worker(self):
        """A worker as applications have one; it knows the plugins that were added so far."""
        return Worker(self.db, plugins=self.plugins, clock=self.clock, **self.settings)

    def service(self, name, *, one_by_one=True):
        settings = WorkerSettings.from_kwargs(db=self.db, plugins=self.plugins, **self.settings)
        deployment = deployment_for(settings, keys_for(settings, lambda: self.db), clock=self.clock)
        service = Service(self.db, deployment, settings, name=name, one_by_one=one_by_one)
        self.services.append(service)
        service.open()
        return service

    def work(self, service, turns=30):
        """Let a worker go on until it has nothing to do."""
        for _ in range(turns):
            did = service.turn()
            if service.holdings.running:
                service.bell.wait(0.05)
            elif not did and service.is_idle():
                break

    def let_die(self, service):
        """Make the others see that a worker is dead; it is told nothing."""
        others = [s for s in self.services if s is not service]
        for _ in range(5):
            for other in others:
                self.work(other)
            self.clock.advance(5.1)
        for other in others:
            self.work(other)

    def close(self):
        if "worker" in vars(self):
            self.worker.stop()
        for service in self.services:
            service.dispatcher.stop(1)
            service.close()
        self.db.close()


def accept_only(service):
    """Accept what is there and die before anything runs."""
    service.dispatcher.room = lambda holdings: 0
    service.turn()
