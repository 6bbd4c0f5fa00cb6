# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

from types import SimpleNamespace

import pytest
from transaction import TransactionManager
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError

from wsgi_zasync import Principal, Unauthorized
from wsgi_zasync.expressions import CannotDecide
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.worker.callbacks.authority import Authority, principal_of
from wsgi_zasync.worker.desk import StorageAway

ANN = Principal("ann")


class Raising(DefaultPolicy):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def principal_now(self, principal, root, /):
        raise self.error

    def allows(self, principal, permission, object, /):
        raise self.error

    def root_for(self, principal, root, /):
        raise self.error


def connection(is_connected):
    storage = SimpleNamespace(is_connected=lambda: is_connected)
    db = SimpleNamespace(storage=storage, databases={})
    manager = TransactionManager(explicit=True)
    manager.begin()
    return SimpleNamespace(db=lambda: db, transaction_manager=manager)


QUESTIONS = {
    "principal_now": lambda authority: authority.principal_now(ANN, None),
    "allows": lambda authority: authority.allows(ANN, "edit", object()),
    "root_for": lambda authority: authority.root_for(ANN, None),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
@pytest.mark.parametrize(
    ("raised", "is_connected", "heard"),
    [
        (Unauthorized("gone"), True, Unauthorized),
        # A storage of ours is away, and is waited for
        (ClientDisconnected("gone"), False, ClientDisconnected),
        (StorageAway("gone"), True, StorageAway),
        # One of the policy's own is, or anything else: nobody knows, and nobody else waits
        (ClientDisconnected("gone"), True, CannotDecide),
        (ConflictError("try again"), True, CannotDecide),
        (RuntimeError("broken"), True, CannotDecide),
        (SystemExit(1), True, CannotDecide),
    ],
)
def test_what_a_policy_raises_is_a_no_or_is_waited_for_or_decides_nothing(
    question, raised, is_connected, heard
):
    authority = Authority(Raising(raised), connection(is_connected))
    with pytest.raises(heard) as found:
        question(authority)
    assert type(found.value) is heard


def test_who_asks_to_stop_the_process_is_heard():
    with pytest.raises(KeyboardInterrupt):
        Authority(Raising(KeyboardInterrupt()), connection(True)).allows(ANN, "edit", object())


def test_an_owner_has_the_title_that_was_known_at_the_put():
    found = principal_of(("ldap", "ann"), "Ann")
    assert (found.id, found.source, found.title) == ("ann", "ldap", "Ann")
    assert not found.roles
