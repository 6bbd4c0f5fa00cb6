# SPDX-License-Identifier: ZPL-2.1
"""A thread's own way to the database, and what becomes of the errors of a lost one."""

from __future__ import annotations

import errno

import pytest
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
