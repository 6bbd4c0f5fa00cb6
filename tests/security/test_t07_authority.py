# SPDX-License-Identifier: ZPL-2.1
"""T7: what was put earlier has the authority of now, and none where nobody can tell."""

from __future__ import annotations

from datetime import timedelta

import pytest
from twisted.internet.defer import succeed

from wsgi_zasync import CallNotFound, CallState, ConfigurationError, Principal, Unauthorized
from wsgi_zasync.security import DefaultPolicy


def test_roles_that_were_noted_at_put_grant_nothing(site):
    # Given somebody whose identity source says editor, and the table does not
    dan = Principal("dan", roles=("editor",))
    with site.calls(dan) as calls:
        call = calls.put("echo").on_success("python: put('open')").id

    site.run()

    with site.calls(dan) as calls:
        assert calls.get(call).callbacks[0].error.startswith("Unauthorized")
        assert calls.count() == 1


@pytest.mark.parametrize("table", [{}, {"ann": ["editor"]}])
def test_roles_that_an_identity_source_says_grant_nothing(site, table):
    site.policy._roles = table

    with site.calls(Principal("dan", roles=("editor",))) as calls:
        with pytest.raises(Unauthorized):
            calls.put("open")
        assert calls.count() == 0


def test_the_permission_for_a_put_is_asked_for_the_principal_of_now(site):
    """Also by a policy that trusts the roles that its own directory has just given."""

    class Trusting(DefaultPolicy):
        def principal_now(self, principal, root):
            return principal.evolve(roles=("editor",) if principal.id == "ann" else ())

        def allows(self, principal, permission, object):
            return "editor" in principal.roles

    site.policy = Trusting()
    with site.calls(Principal("ann")) as calls:
        calls.put("open")
    with site.calls(Principal("dan", roles=("editor",))) as calls:
        with pytest.raises(Unauthorized):
            calls.put("open")
        assert calls.count() == 0


def test_whose_owner_is_gone_is_not_run_and_evaluates_nothing(site):
    ran = []
    site.plugins["mark"] = lambda attempt: ran.append(1)
    with site.calls("bob") as calls:
        call = calls.put("mark").on_any("python: put('open')")
        oid = call._record._p_oid
    site.policy.gone.add("bob")

    site.run()

    assert ran == []
    with site.calls("bob") as calls:
        record = calls.connection.get(oid)
        assert (record.id, record.state) == (call.id, CallState.FAILED)
        assert [str(c.state) for c in record.all_callbacks()] == ["failed"]


def test_somebody_new_of_the_same_name_gets_nothing_of_the_one_who_is_gone(site):
    before = site.put("echo", user="bob")
    site.policy.gone.add("bob")
    site.run()

    # When a new bob comes
    site.policy.gone.clear()
    site.clock.advance(1)
    after = site.put("echo", user="bob")

    with site.calls("bob") as calls:
        assert [call.id for call in calls.mine()] == [after]
        assert calls.count() == calls.count("waiting") == 1
        assert calls.count("failed") == 0
        assert before not in calls
        with pytest.raises(CallNotFound):
            calls.get(before)


def test_the_third_of_a_name_gets_nothing_of_the_second_and_nothing_of_a_clock_that_was_ahead(site):
    # Given bob, who is gone, and another bob
    found = []
    for _ in range(2):
        site.clock.advance(60)
        then = site.clock.now()
        # One call was put by a host whose clock is ahead
        site.clock.set(then + timedelta(minutes=5))
        site.put("echo", user="bob")
        site.clock.set(then)
        site.put("echo", user="bob")
        # When that one is gone, too
        site.policy.gone.add("bob")
        site.run()
        site.policy.gone.clear()
        with site.calls("bob") as calls:
            found += calls.mine()
    # Then neither the second nor the third sees any of it
    assert found == []


def test_somebody_new_has_what_they_put_after_a_clock_was_put_back(site):
    # Given a bob who was found gone, and a clock that is put back then
    site.put("echo", user="bob")
    site.policy.gone.add("bob")
    site.clock.advance(60)
    site.run()
    site.clock.set(site.clock.now() - timedelta(hours=1))
    # When a new bob puts
    site.policy.gone.clear()
    after = site.put("echo", user="bob")
    # Then that is not hidden with what the other one had
    with site.calls("bob") as calls:
        assert [call.id for call in calls.mine()] == [after]


async def _later():
    return False


@pytest.mark.parametrize("allows", [lambda *about: _later(), lambda *about: succeed(False)])
def test_an_answer_that_is_still_to_come_allows_nothing(site, allows):
    # Given a call whose callback needs a permission, and a policy that does not answer at once
    call = site.put("echo", on_success="python: put('open', 1).id")
    site.policy.allows = allows

    # When it is evaluated, and when such a call is put
    site.run()
    with site.calls() as calls:
        with pytest.raises(ConfigurationError, match="write def, not async def"):
            calls.put("open")

        # Then that is no yes, and as nobody knows, the callback waits
        assert calls.get(call).callbacks[0].state == "pending"
        assert calls.count() == 1


def test_a_directory_that_is_down_neither_allows_nor_fails_a_callback(site):
    call = site.put("echo", 7, on_success="python: put('open', 1).id")
    with site.calls() as calls:
        assert calls.count() == 1
    original = site.policy.allows
    site.policy.allows = _down
    site.run()
    with site.calls() as calls:
        assert calls.get(call).state == CallState.SUCCEEDED
        assert calls.get(call).callbacks[0].state == "pending"
        assert calls.count() == 1

    site.policy.allows = original
    site.clock.advance(60)
    site.run()

    with site.calls() as calls:
        assert calls.get(call).callbacks[0].state == "done"
        assert calls.count() == 2


def _down(*question):
    raise ConnectionError("the directory is down")


def test_a_demotion_takes_the_right_from_calls_of_last_week(site):
    site.policy._roles = roles = {"ann": ["editor"]}
    call = site.put("echo", 7, on_success="python: put('open')")
    roles["ann"] = []

    site.run()

    with site.calls() as calls:
        assert calls.get(call).callbacks[0].error.startswith("Unauthorized")
        assert calls.count() == 1


def test_an_owner_who_is_gone_when_the_callbacks_are_due_is_marked_so(site):
    # Given bob, who is removed while his call runs
    site.plugins["leave"] = lambda attempt: site.policy.gone.add("bob")
    with site.calls("bob") as calls:
        call = calls.put("leave").on_any("python: put('open')")
        oid = call._record._p_oid
    site.run()
    with site.calls("bob") as calls:
        [callback] = calls.connection.get(oid).all_callbacks()
        assert callback.error == "Unauthorized: bob is gone"

    # When a new bob comes
    site.policy.gone.clear()
    site.clock.advance(1)

    with site.calls("bob") as calls:
        assert calls.mine() == []
        assert call.id not in calls
