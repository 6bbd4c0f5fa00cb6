# SPDX-License-Identifier: ZPL-2.1
"""Who owns a put, as the application says it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from wsgi_zasync import CallNotFound, InvalidArguments, NotAuthenticated, Principal
from wsgi_zasync.testing import calls_of, deployment_of, memory_db


@pytest.fixture
def db() -> Iterator[Any]:
    database = memory_db()
    yield database
    database.close()


@pytest.fixture
def deployment() -> Any:
    return deployment_of({"report.render": lambda attempt: None})


def test_what_the_application_sets_goes_before_what_the_request_says(db, deployment):
    # Given a request of ann's
    with calls_of(db, "ann", deployment) as calls:
        # When the application says who it really is
        calls.principal = Principal("bob", "members")
        call = calls.put("report.render")

    # Then that one owns the call
    with calls_of(db, Principal("bob", "members"), deployment) as calls:
        assert call.id in calls
    with calls_of(db, "ann", deployment) as calls:
        assert call.id not in calls


def test_an_application_that_says_nobody_means_nobody(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        calls.principal = None

        assert calls.principal is None
        with pytest.raises(NotAuthenticated):
            calls.put("report.render")


def test_what_was_set_is_gone_with_its_transaction(db, deployment):
    with calls_of(db, "ann", deployment) as calls:
        calls.principal = None
        calls._access.transaction().abort()
        calls._access._connection.transaction_manager.begin()

        assert calls.principal == Principal("ann")


def test_a_principal_is_a_principal_or_a_text(db, deployment):
    with calls_of(db, None, deployment) as calls:
        with pytest.raises(InvalidArguments, match="principal"):
            calls.principal = 7
        calls.principal = "carol"

        assert calls.principal == Principal("carol")


@pytest.mark.parametrize(
    "spelling", ["", "-", "None", "Anonymous User", Principal("Anonymous User", "acl_users")]
)
def test_what_hosts_call_a_stranger_owns_nothing(db, deployment, spelling):
    with calls_of(db, "ann", deployment) as calls:
        calls.principal = spelling

        assert calls.principal is None
        with pytest.raises(NotAuthenticated):
            calls.put("report.render")


def test_nobody_has_no_calls_to_look_at(db, deployment):
    # Given a call of ann's
    with calls_of(db, "ann", deployment) as calls:
        known = calls.put("report.render").id

    # When a page that anybody may read looks for it
    with calls_of(db, None, deployment) as calls:
        # Then there is none, as for somebody else
        assert (calls.mine(), calls.count(), calls.count("waiting")) == ([], 0, 0)
        for wanted in (known, "unknown"):
            assert wanted not in calls
            for look in (calls.get, calls.cancel, calls.forget, lambda id: calls.mine(after=id)):
                with pytest.raises(CallNotFound):
                    look(wanted)
