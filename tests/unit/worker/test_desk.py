# SPDX-License-Identifier: ZPL-2.1
"""A thread's own way to the database, and what becomes of the errors of a lost one."""

from __future__ import annotations

import errno

import pytest
from persistent.mapping import PersistentMapping
from ZEO.Exceptions import ServerException

from wsgi_zasync.testing import memory_db
from wsgi_zasync.worker.desk import Desk, StorageAway, is_full


def test_a_storage_that_fails_also_the_abort_is_away(monkeypatch):
    db = memory_db()
    desk = Desk(db, "main")

    def lost(*_):
        raise OSError("the server closed the connection")

    with pytest.raises(StorageAway), desk.transaction():
        monkeypatch.setattr(desk.connection._storage, "load", lost)
        monkeypatch.setattr(desk._manager, "abort", lost)
        lost()
    monkeypatch.undo()
    desk._manager.abort()
    desk.close()
    db.close()


def test_an_idle_connection_catches_up_and_keeps_no_oids_of_what_was_written():
    db = memory_db()
    desk = Desk(db, "main")
    with desk.transaction():
        pass
    for number in range(50):
        with db.transaction() as connection:
            connection.root()[number] = PersistentMapping()
    kept = desk.connection._storage._invalidations
    assert len(kept) > 50

    desk.catch_up()

    assert not kept
    desk.close()
    db.close()


def test_an_idle_connection_that_is_lost_is_left_to_who_uses_it(monkeypatch):
    db = memory_db()
    desk = Desk(db, "main")

    def lost(*_):
        raise OSError("the server closed the connection")

    monkeypatch.setattr(desk._manager, "begin", lost)
    desk.catch_up()
    monkeypatch.undo()

    with desk.transaction():
        assert desk.connection.root() == {}
    desk.close()
    db.close()


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EROFS, "Read-only file system"), True),
        (OSError(errno.ENOENT, "No such file or directory"), False),
        (ServerException("builtins.OSError", (errno.ENOSPC, "No space left on device")), True),
        (ServerException("builtins.OSError", ()), False),
        (ServerException("builtins.ValueError", (errno.ENOSPC,)), False),
        (ServerException(), False),
        (ValueError(errno.ENOSPC), False),
    ],
)
def test_a_disk_that_takes_nothing_is_known_by_its_error_here_and_at_a_server(error, full):
    assert is_full(error) is full
