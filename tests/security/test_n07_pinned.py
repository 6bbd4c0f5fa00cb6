# SPDX-License-Identifier: ZPL-2.1
"""N7: what a decision rests on is pinned, also when it was never loaded before."""

from __future__ import annotations

import pytest
from persistent.mapping import PersistentMapping
from transaction import TransactionManager
from ZODB.POSException import ReadConflictError
from ZODB.utils import z64

from wsgi_zasync import Principal
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.testing import memory_db

ANN = Principal("ann")


@pytest.fixture
def db():
    db = memory_db()
    with db.transaction() as connection:
        root = connection.root()
        parent = root["folder"] = PersistentMapping()
        parent.__acl__ = [("Allow", "user:ann", "edit")]
        child = root["document"] = PersistentMapping()
        child.__parent__ = parent
        root["effects"] = PersistentMapping()
    yield db
    db.close()


@pytest.mark.parametrize("changed", ["document", "folder"])
@pytest.mark.parametrize("is_ghost", [True, False])
def test_a_demotion_that_commits_meanwhile_refuses_the_commit(db, changed, is_ghost):
    policy = DefaultPolicy()
    manager = TransactionManager(explicit=True)
    manager.begin()
    # The connection that made the objects knows their serials even when they are ghosts.
    maker = db.open(TransactionManager(explicit=True))
    connection = db.open(manager)
    root = connection.root()
    document, effects = root["document"], root["effects"]
    if is_ghost:
        assert document._p_changed is None
        assert document._p_serial == z64
    else:
        assert document.__parent__.__acl__

    # Given a decision, and what it allowed
    assert policy.allows(ANN, "edit", document)
    effects["written"] = True
    # When somebody takes the permission away before that commits
    with db.transaction() as other:
        other.root()[changed].__acl__ = [("Deny", "user:ann", "edit")]

    # Then it does not commit, and is decided anew
    with pytest.raises(ReadConflictError):
        manager.commit()
    manager.abort()
    manager.begin()
    assert not policy.allows(ANN, "edit", connection.root()["document"])
    assert "written" not in connection.root()["effects"]
    manager.abort()
    connection.close()
    maker.close()
