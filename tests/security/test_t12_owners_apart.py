# SPDX-License-Identifier: ZPL-2.1
"""T12: owners whose calls end together share neither a user nor a fate."""

from __future__ import annotations

import random

import pytest

from tests.integration.shelves import Shelf
from tests.integration.stepping import Site, accept_only
from wsgi_zasync import CallState
from wsgi_zasync.security import DefaultPolicy
from wsgi_zasync.testing import calls_of, deployment_of

OWNERS = ("ann", "bob", "cleo")


class Host(DefaultPolicy):
    """A policy with a current user, as hosts have one: set when asked who somebody is now."""

    stateless = False

    def __init__(self):
        super().__init__({name: ["editor"] for name in OWNERS}, {"edit": "role:editor"})
        self.current = None
        #: (current user, who was asked about), each time that a permission was needed.
        self.asked = []
        #: (transaction, who was asked about) each time.
        self.asked_in = []

    def principal_now(self, principal, root):
        self.current = principal.id
        return super().principal_now(principal, root)

    def allows(self, principal, permission, object):
        self.asked.append((self.current, principal.id))
        self.asked_in.append((object._p_jar.transaction_manager.get(), principal.id))
        return super().allows(principal, permission, object)


@pytest.fixture
def site():
    policy = Host()
    site = Site(policy=policy, max_running=200)
    site.policy = policy
    site.add("echo", lambda attempt, value: value, runs="reactor")
    site.keep(shelf=Shelf())
    yield site
    site.close()


def put(site, user, value, text):
    with site.calls(user) as calls:
        shelf = calls.root["shelf"]
        return calls.put("echo", value).on_success(text, shelf=shelf).id


def end_together(site, count, meanwhile=lambda: None):
    """Have all calls run, and write their ends; returns how many commits that took."""
    service = site.service("first", one_by_one=False)
    commits = []
    inner = service.membership.commit

    def commit(transaction, oids=()):
        inner(transaction, oids)
        commits.append(len(list(oids)))

    # As after many short calls: it accepts more than can begin
    service.dispatcher._queue = 100
    accept_only(service)
    meanwhile()
    del service.dispatcher.room
    service.turn()
    service.bell.wait_for_more(count, 10, lambda: True)
    assert len(service.bell) == count
    service.membership.commit = commit
    for _ in range(3 * count):
        service.turn()
        if service.is_idle():
            break
    return sum(1 for written in commits if written)


@pytest.mark.parametrize(
    ("seed", "declared"), [*((seed, "at the put") for seed in range(5)), (5, "after the accept")]
)
def test_owners_interleaved_are_each_evaluated_as_themselves(site, seed, declared):
    # Given calls of three owners in turn, each second callback raising at some depth
    draw = random.Random(seed)
    calls, late = [], []
    for number in range(18):
        user = OWNERS[number % 3]
        if number % 2:
            text = "python: [user.id, shelf.add(user.id)]"
        else:
            depth = draw.randrange(1, 8)
            text = f"python: {'[' * depth}shelf.add('{user}'), nowhere{']' * depth}"
        if declared == "at the put":
            calls.append((user, number, put(site, user, number, text)))
            continue
        with site.calls(user) as manager:
            calls.append((user, number, manager.put("echo", number).id))
        late.append((user, calls[-1][2], text))

    def declare():
        for user, call, text in late:
            with site.calls(user) as manager:
                manager.get(call).on_success(text, shelf=manager.root["shelf"])

    end_together(site, 18, declare)

    # Then whoever was asked about was the current user, and nothing of a failed one is left
    assert site.policy.asked
    assert all(current == asked for current, asked in site.policy.asked)
    # … and a transaction's callbacks were all of one owner: the policy keeps a current user
    assert len({(id(txn), asked) for txn, asked in site.policy.asked_in}) == len(
        {id(txn) for txn, _ in site.policy.asked_in}
    )
    added = []
    for user, number, call in calls:
        with site.calls(user) as found:
            [callback] = found.get(call).callbacks
            if number % 2:
                assert callback.value[0] == user
                added.append(user)
            else:
                assert (callback.state, callback.value) == ("failed", None)
    with site.calls() as found:
        assert sorted(found.root["shelf"].items) == sorted(added)


@pytest.mark.parametrize("what", ["spoil", "poison"])
def test_one_of_a_hundred_that_cannot_be_committed_delays_nobody(site, what):
    # Given a hundred ended calls, one with an effect that cannot be committed
    calls = [
        put(site, "ann", n, f"python: shelf.{what}()" if n == 41 else "python: shelf.add(result)")
        for n in range(100)
    ]

    commits = end_together(site, 100)

    # Then all are whole but its callback, in a few commits
    assert commits <= 8
    with site.calls() as found:
        assert {found.get(call).state for call in calls} == {CallState.SUCCEEDED}
        failed = [found.get(call).callbacks_failed for call in calls]
        assert failed == [int(n == 41) for n in range(100)]
        assert sorted(found.root["shelf"].items) == [n for n in range(100) if n != 41]


def test_a_put_reads_nothing_of_what_another_owner_has_put(site, monkeypatch):
    """They use one lane in turn; how long bob's put takes must not depend on ann's arguments."""
    deployment = deployment_of({"echo": lambda attempt, value: value})
    for user in ("ann", "bob", "bob", "ann"):
        with calls_of(site.db, user, deployment) as calls:
            call = calls.put("echo", "x" * 5_000)
            if user == "ann":
                annes = call

    with calls_of(site.db, "bob", deployment) as calls:
        storage, loaded = calls.connection._storage, []
        inner = storage.load
        calls.connection.cacheMinimize()
        monkeypatch.setattr(storage, "load", lambda oid, *more: loaded.append(oid) or inner(oid))
        bobs = calls.put("echo", 2)

    assert bobs._place[0] == annes._place[0]
    assert loaded
    assert annes.oid not in loaded
