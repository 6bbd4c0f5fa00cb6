# SPDX-License-Identifier: ZPL-2.1
"""A database is opened when first needed, and again after a fork."""

from __future__ import annotations

import pytest
from ZODB import DB
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import ConfigurationError
from wsgi_zasync.web import databases
from wsgi_zasync.web.databases import LazyDatabase


@pytest.fixture
def opened():
    """What was opened, in order; closed at the end."""
    made = []
    yield made
    for database in made:
        database.close()


@pytest.fixture
def opener(opened):
    def open_one():
        opened.append(DB(MappingStorage()))
        return opened[-1]

    return open_one


def fork(monkeypatch):
    """Be another process from now on."""
    pid = databases.os.getpid()
    monkeypatch.setattr(databases.os, "getpid", lambda: pid + 1)


def test_nothing_is_opened_before_it_is_asked_for(opener, opened):
    lazy = LazyDatabase(opener=opener)

    assert lazy.is_configured
    assert opened == []


def test_it_is_opened_once(opener, opened):
    lazy = LazyDatabase(opener=opener)

    assert lazy.get() is lazy.get()
    assert len(opened) == 1


def test_it_is_opened_again_after_a_fork_and_the_parents_stays_open(opener, opened, monkeypatch):
    lazy = LazyDatabase(opener=opener)
    parents = lazy.get()
    fork(monkeypatch)

    assert lazy.get() is not parents
    assert len(opened) == 2
    with parents.transaction() as connection:
        assert connection.root() == {}


def test_one_that_was_given_cannot_cross_a_fork(opener, monkeypatch):
    lazy = LazyDatabase(opener())
    assert lazy.get() is lazy.get()
    fork(monkeypatch)

    with pytest.raises(ConfigurationError, match="fork"):
        lazy.get()


def test_without_any_the_error_says_what_to_configure():
    lazy = LazyDatabase()

    assert not lazy.is_configured
    with pytest.raises(ConfigurationError, match=r"zodb_uri.*calls\.bind\(connection\)"):
        lazy.get()


def test_one_that_was_given_is_not_closed(opener):
    given = opener()
    LazyDatabase(given).close()

    with given.transaction() as connection:
        assert connection.root() == {}


def test_one_that_was_opened_is_closed_and_can_be_opened_again(opener, opened):
    lazy = LazyDatabase(opener=opener)
    first = lazy.get()
    lazy.close()

    assert lazy.get() is not first


def test_a_failed_opening_is_tried_again(opener):
    failures = [OSError("away")]

    def open_one():
        if failures:
            raise failures.pop()
        return opener()

    lazy = LazyDatabase(opener=open_one)
    with pytest.raises(OSError, match="away"):
        lazy.get()

    assert lazy.get() is lazy.get()
