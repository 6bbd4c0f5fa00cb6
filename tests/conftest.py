# SPDX-License-Identifier: ZPL-2.1
"""What holds for every test: hypothesis draws the same examples in every run, and none leaves a
connection behind in the transaction of the thread.

And what several ask for: a database in memory, and a site of Zope's, which takes long to begin.
"""

from __future__ import annotations

import pytest
import transaction
from hypothesis import HealthCheck, settings

from tests.zope_instance.starting import Site
from wsgi_zasync.testing import memory_db
from wsgi_zasync.web.hosts import open_connections

# No deadline: on a loaded machine it would measure the neighbours. Nothing random: a failure
# that somebody sees once is one that everybody sees.
settings.register_profile(
    "repository",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repository")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_teardown(item):
    """Find out who leaves a connection open in this thread's transaction: the next test has it."""
    found = yield
    left = open_connections(transaction.get())
    for connection in left:
        connection.transaction_manager.abort()
        connection.close()
    assert not left, f"{item.nodeid} leaves {len(left)} connections open in this thread"
    return found


@pytest.fixture
def db():
    """A database in memory."""
    database = memory_db()
    yield database
    database.close()


@pytest.fixture(scope="session")
def zope_site(tmp_path_factory):
    """Zope, published in a process of its own; every test has users of its own there."""
    with Site(tmp_path_factory.mktemp("zope")) as site:
        yield site
