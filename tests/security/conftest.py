# SPDX-License-Identifier: ZPL-2.1
"""A site in memory whose users, plugins and policy each test says; run step by step."""

from __future__ import annotations

import pytest

from wsgi_zasync import Unauthorized, plugin
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.settings import Quotas
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db
from wsgi_zasync.worker import Worker


class Directory(DefaultPolicy):
    """The default policy with a directory of users, which may be down."""

    def __init__(self, *tables):
        super().__init__(*tables)
        self.gone = set()
        self.error = None

    def principal_now(self, principal, root):
        if self.error is not None:
            raise self.error
        if principal.id in self.gone:
            raise Unauthorized(f"{principal.id} is gone")
        return super().principal_now(principal, root)


def _fail(attempt, text="no luck"):
    raise ValueError(text)


PLUGINS = {
    "echo": plugin("echo")(lambda attempt, value=None: value),
    "fail": plugin("fail")(_fail),
    "open": plugin("open", expressions=True, permission="ask")(lambda attempt, v=0: v),
}


class Site:
    """Ann and bob may edit and ask; everybody else may nothing."""

    def __init__(self, **quotas):
        self.clock = FakeClock()
        self.quotas = quotas
        editors = {"ann": ["editor"], "bob": ["editor"]}
        self.policy = Directory(editors, {"edit": "role:editor", "ask": "role:editor"})
        self.plugins = dict(PLUGINS)
        self.settings = {}
        self.sealer = None
        self.db = memory_db()
        self._workers = []

    def calls(self, user="ann", **more):
        deployment = deployment_of(
            self.plugins,
            clock=self.clock,
            policy=self.policy,
            quotas=Quotas(**self.quotas),
            sealer=self.sealer,
        )
        return calls_of(self.db, user, deployment, **more)

    def put(self, *args, user="ann", **callbacks):
        with self.calls(user) as calls:
            call = calls.put(*args)
            for on, text in callbacks.items():
                getattr(call, on)(text)
            return call.id

    def run(self):
        if not self._workers:
            self._workers.append(
                Worker(
                    self.db,
                    plugins=self.plugins,
                    clock=self.clock,
                    policy=self.policy,
                    **self.quotas,
                    **self.settings,
                )
            )
        return self._workers[0].run_once()

    def close(self):
        for worker in self._workers:
            worker.stop()
        self.db.close()


@pytest.fixture
def make_site():
    """Makes sites, with these quotas."""
    made = []

    def make(**quotas):
        made.append(Site(**quotas))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def site(make_site):
    return make_site()
