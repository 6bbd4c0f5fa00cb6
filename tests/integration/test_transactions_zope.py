# SPDX-License-Identifier: ZPL-2.1
"""Zope owns the thread's transaction, says so nowhere, and gives its views a copy of the environ.

The site is one of Zope's own, in a process of its own, behind what docs/howto/host-zope.rst says.
"""

from __future__ import annotations

import pytest

from tests.zope_instance.starting import Site

DATABASE_OF_CALLS = """
<zodb_db zasync>
  <filestorage>
    path {instance}/Calls.fs
  </filestorage>
  mount-point /zasync
</zodb_db>
"""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def ann(zope_site):
    return zope_site.user()


@pytest.fixture(params=["main", "apart"])
def pipeline(request):
    """With the calls in Zope's database, and in one of which Zope knows nothing."""
    return request.param


@pytest.fixture
def ask(zope_site, ann, pipeline):
    return lambda view, **form: zope_site.ask(f"/{pipeline}/@@{view}", ann, **form)


@pytest.fixture
def stored_ids(zope_site, ann, pipeline):
    """The ids of the calls of ann, or of somebody of the default source."""

    def ids(name=None):
        owner = {"user": ann} if name is None else {"user": name, "source": ""}
        return [call["id"] for call in zope_site.stored(pipeline=pipeline, **owner)]

    return ids


def test_the_call_commits_with_zopes_transaction(ask, zope_site, ann, stored_ids):
    answer = ask("put", note=f"by {ann}").json

    assert answer["connection"]
    assert stored_ids() == [answer["id"]]
    assert zope_site.say("note") == f"by {ann}"
    assert zope_site.say("open_connections") == 0


@pytest.mark.parametrize(
    ("view", "status"), [("doomed", 200), ("failing", 500), ("redirecting", 302)]
)
def test_what_zope_aborts_has_no_call(ask, stored_ids, view, status):
    assert ask(view).status == status
    assert stored_ids() == []


def test_a_redirect_that_is_no_exception_has_its_call(ask, stored_ids):
    answer = ask("redirecting-by-header")

    assert answer.status == 302
    assert stored_ids() == [answer.json]


def test_a_conflict_that_zope_retries_leaves_one_call(ask, zope_site, ann, stored_ids):
    answer = ask("conflicting").json

    # Whom the view of the first attempt has set is nobody in the second one. REMOTE_USER is what
    # Zope leaves behind by then.
    assert answer["seen"] == [None, ann, ann]
    assert stored_ids() == [answer["id"]]
    assert stored_ids("bob") == []


def test_a_view_that_commits_in_the_midst_goes_on_in_the_next_transaction(ask, stored_ids):
    assert ask("committing").json == stored_ids()


def test_a_put_after_zopes_commit_is_refused(ask, stored_ids):
    answer = ask("put", late="yes")

    assert answer.headers["X-Late"] == "TransactionOver"
    assert stored_ids() == [answer.json["id"]]
    assert stored_ids("ann") == []


def test_a_put_after_zopes_abort_is_refused(ask, zope_site, stored_ids):
    ask("failing", late="yes")

    assert zope_site.say("last_seen") == [None, "TransactionOver"]
    assert stored_ids("ann") == []


def test_a_database_that_zope_names_zasync_holds_the_calls(tmp_path):
    with Site(tmp_path, DATABASE_OF_CALLS) as site:
        ann = site.user()
        answer = site.ask("/@@put", ann, note="written").json

        assert answer["connection"]
        assert [call["id"] for call in site.stored(ann)] == [answer["id"]]
        assert site.say("note") == "written"


def test_the_request_of_another_application_is_not_joined(zope_site, ann):
    assert zope_site.ask("/@@within", ann).json == 1
