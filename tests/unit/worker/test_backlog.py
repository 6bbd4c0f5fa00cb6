# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

from wsgi_zasync.worker.backlog import Backlog
from wsgi_zasync.worker.held import Held


def held(name, owner="ann", plugin="p", priority=1, source=""):
    return Held(name.encode(), name, (source, owner), plugin, priority, chunk=0)


def taken(backlog, limit=100, may_begin=lambda held: True):
    return [h.call_id for h in backlog.take(limit, may_begin)]


def test_owners_take_turns():
    backlog = Backlog()
    for n in range(4):
        backlog.add(held(f"ann{n}"))
    backlog.add(held("bob0", "bob"))

    assert taken(backlog) == ["ann0", "bob0", "ann1", "ann2", "ann3"]
    assert len(backlog) == 0


def test_a_user_among_a_thousand_anonymous_owners_waits_for_one_of_them():
    backlog = Backlog()
    for n in range(1000):
        backlog.add(held(f"s{n}", f"cookie{n}", source="session"))
    backlog.add(held("ann0"))

    assert "ann0" in taken(backlog, 3)


def test_high_priority_comes_first():
    backlog = Backlog()
    backlog.add(held("low", priority=2))
    backlog.add(held("normal", priority=1))
    backlog.add(held("high", priority=0))

    assert taken(backlog) == ["high", "normal", "low"]


def test_a_plugin_that_is_full_lets_others_pass_and_keeps_its_order():
    # Given three calls of a plugin that may run one, and one of another
    backlog = Backlog()
    for name, plugin in [("a", "slow"), ("b", "slow"), ("c", "fast"), ("d", "slow")]:
        backlog.add(held(name, plugin=plugin))
    room = {"slow": 1, "fast": 9}

    def may_begin(each):
        room[each.plugin] -= 1
        return room[each.plugin] >= 0

    # When they are taken
    first = taken(backlog, may_begin=may_begin)

    # Then the others stay, in their order
    assert first == ["a", "c"]
    assert taken(backlog) == ["b", "d"]


def test_nothing_is_taken_beyond_the_limit():
    backlog = Backlog()
    for n in range(5):
        backlog.add(held(str(n)))

    assert len(backlog.take(2, lambda h: True)) == 2
    assert len(backlog) == 3
