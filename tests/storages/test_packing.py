# SPDX-License-Identifier: ZPL-2.1
"""Packing a database that is in use, on storages of these tests' own.

To pack, a storage reads every record that it has, and those of other tests are broken on purpose.
"""

from __future__ import annotations

import pytest
from ZODB.POSException import ConflictError

from tests.storages.conftest import POSTGRES, STORAGES, Clients, is_missing
from wsgi_zasync.errors import Fenced
from wsgi_zasync.store.accepted import held_area


@pytest.fixture(scope="module", params=list(STORAGES))
def clients(request, tmp_path_factory):
    kind = request.param
    if is_missing(kind) or (kind == "relstorage-postgres" and POSTGRES):
        pytest.skip("there is no PostgreSQL here that is for these tests alone")
    with STORAGES[kind](tmp_path_factory.mktemp(kind)) as client:
        yield Clients(kind, client)


@pytest.mark.parametrize("again", [False, True], ids=["", "and its rescuer was, too"])
@pytest.mark.parametrize("stops", ["between transactions", "in a transaction"])
def test_packing_lets_no_worker_in_that_was_taken_over(
    one, two, put, register, accept, stops, again
):
    # Given a worker that has loaded all that it needs, and stops
    area, rescuer = register(one), register(two, "rescuer")
    with one.writing() as store:
        (record,) = put(store)
        oid = record._p_oid
    with one.writing():
        accept(one, area)
    one.begin()
    held_area(one.connection, area)
    one.get(oid)._p_activate()
    if stops == "between transactions":
        one.abort()
    # When another takes over, and what is left of the stopped one is packed away
    with two.writing() as store:
        store.take_over(two.get(rescuer), two.get(area))
    if again:
        last = register(two, "last")
        with two.writing() as store:
            store.take_over(two.get(last), two.get(rescuer))
    two.db.pack()
    # Then the stopped one finds that out, or its commit is refused
    if stops == "between transactions":
        one.begin()
        with pytest.raises(Fenced):
            held_area(one.connection, area)
    else:
        one.get(oid).title = "the stopped one's"
        with pytest.raises(ConflictError):
            one.commit()
    one.abort()
