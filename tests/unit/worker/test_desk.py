# SPDX-License-Identifier: ZPL-2.1
"""A thread's own way to the database, and what becomes of the errors of a lost one."""

from __future__ import annotations

import pytest

from wsgi_zasync.testing import memory_db
from wsgi_zasync.worker.desk import Desk, StorageAway


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
