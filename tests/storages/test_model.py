# SPDX-License-Identifier: ZPL-2.1
"""Requests and workers of two clients in random turns, compared with a model of plain Python."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest
from ZODB.POSException import ConflictError

from wsgi_zasync.store import lanes
from wsgi_zasync.store.pruning import prune

QUEUES = ("default", "slow")
#: The last one is used by both clients, as after a wrong claim.
LANES = range(3)
OWNERS = [("", f"o{number}") for number in range(12)]
#: Some put again and again, most now and then.
WEIGHTS = [1 if number % 4 else 9 for number in range(len(OWNERS))]


@dataclass
class Known:
    """What is known of a call that is committed."""

    owner: tuple[str, str]
    oid: bytes
    place: tuple[int, int, int]
    #: Its owner, lane, queue and priority: such calls come in the order of their puts.
    line: tuple[object, ...]
    final: bool = False
    cancelled: bool = False
    forgotten: bool = False


@dataclass
class Model:
    """All that has been committed."""

    calls: dict[str, Known] = field(default_factory=dict)
    accepted: Counter[str] = field(default_factory=Counter)
    noted: set[str] = field(default_factory=set)
    last: dict[tuple[object, ...], tuple[int, int, int]] = field(default_factory=dict)

    def some(self, chance, *, final):
        found = [k for k in self.calls.values() if k.final is final and not k.forgotten]
        return chance.choice(found) if found else None


class Actor:
    """One client: a session that puts, cancels and forgets, or is a worker, in turn.

    Each action writes in the session's transaction, and returns what is true once it has
    committed.
    """

    def __init__(self, session, lanes, area, queues, chance, put, accept):
        self.session, self.lanes, self.area, self.queues = session, lanes, area, queues
        self.chance, self.put_some, self.accept_some = chance, put, accept
        self.may_be_more = False

    def put(self, model, store):
        lane = self.chance.choice(self.lanes)
        records = []
        for number in range(self.chance.randrange(1, 5)):
            savepoint = None
            if number and self.chance.random() < 0.2:
                savepoint = self.session.manager.savepoint()
            added = self.put_some(
                store,
                self.chance.choice((1, 1, 1, 3)),
                lane=lane,
                owner=self.chance.choices(OWNERS, WEIGHTS)[0],
                queue=self.chance.choice(QUEUES),
                priority=self.chance.choice((1, 1, 2)),
            )
            if savepoint is not None and self.chance.random() < 0.7:
                savepoint.rollback()
            else:
                records += added
        known = {
            r.id: Known(r.owner, r._p_oid, r.place, (r.owner, lane, r.queue, r.priority))
            for r in records
        }
        return lambda: model.calls.update(known)

    def accept(self, model, store):
        limit = self.chance.choice((1, 3, 10, 40))
        accepted = self.accept_some(self.session, self.area, limit, lanes=LANES, queues=self.queues)
        self.may_be_more = accepted.is_full
        calls = [record.id for record in accepted.calls]
        notes = [record.id for record in accepted.notes]
        ended = [record for record in accepted.calls if self.chance.random() < 0.7]
        for record in ended:
            record.succeed(None, 1)
            store.count_end(self.session.get(self.area).tallies, record)
        ended = [record.id for record in ended]

        def then():
            for call_id in calls:
                known = model.calls[call_id]
                model.accepted[call_id] += 1
                assert model.last.get(known.line, (-1, -1, -1)) < known.place
                model.last[known.line] = known.place
            model.noted.update(notes)
            for call_id in ended:
                model.calls[call_id].final = True

        return then

    def cancel(self, model, store):
        known = model.some(self.chance, final=False)
        if known is None:
            return lambda: None
        lane = self.chance.choice(self.lanes)
        record = self.session.get(known.oid)
        record.cancel(1)
        store.count_end(store.site.lanes[lane].tallies, record)
        store.post_note(record, lane)

        def then():
            known.final = known.cancelled = True

        return then

    def forget(self, model, store):
        known = model.some(self.chance, final=True)
        if known is None:
            return lambda: None
        store.forget(self.session.get(known.oid), self.session.get(self.area).tallies)

        def then():
            known.forgotten = True

        return then

    def prune(self, model, store):
        tallies = self.session.get(self.area).tallies
        prune(store, lambda record: tallies, 10**17, 0)
        gone = [k for k in model.calls.values() if k.final and not k.forgotten]
        gone = [k for k in gone if self.session.get(k.oid).forgotten]

        def then():
            for known in gone:
                known.forgotten = True

        return then


OF_REQUESTS = [Actor.put] * 8 + [Actor.cancel] * 2 + [Actor.forget] * 3 + [Actor.prune]
OF_WORKERS = [Actor.accept] * 8


def take_turns(actors, actions, model, chance):
    """One or both begin, act, and commit in any order; who meets a conflict tries once more."""
    begun = [
        (actor, chance.choice(actions), actor.session.begin())
        for actor in chance.sample(actors, chance.choice((1, 2, 2)))
    ]
    done = [(actor, action, action(actor, model, store)) for actor, action, store in begun]
    chance.shuffle(done)
    again = []
    for actor, action, then in done:
        if chance.random() < 0.1:
            actor.session.abort()
            continue
        try:
            actor.session.commit()
        except ConflictError:
            actor.session.abort()
            again.append((actor, action))
        else:
            then()
    for actor, action in again:
        then = action(actor, model, actor.session.begin())
        actor.session.commit()
        then()


@pytest.mark.parametrize("seed", range(2))
def test_each_committed_call_is_accepted_once_and_its_owner_sees_it(
    one, two, put, register, accept, monkeypatch, seed
):
    # Given few segments that may be open
    monkeypatch.setattr(lanes, "MOST_OPEN", 2)
    # and two clients, of which each has a lane, and a third is used by both
    chance, model = random.Random(seed), Model()
    areas = register(one, "first"), register(two, "second")
    actors = [
        Actor(one, (0, 2), areas[0], QUEUES, chance, put, accept),
        Actor(two, (1, 2), areas[1], QUEUES[:1], chance, put, accept),
    ]
    # When they do what requests and workers do, and all that is left is taken at the end
    for turn in range(80):
        # Workers are late at times.
        actions = OF_REQUESTS if turn // 20 % 2 else OF_REQUESTS + OF_WORKERS
        take_turns(actors, actions, model, chance)
    rest = actors[0]
    rest.may_be_more = True
    while rest.may_be_more:
        then = rest.accept(model, rest.session.begin())
        rest.session.commit()
        then()
    # Then each came once, those that were cancelled before at most once, and as a note
    assert model.accepted.total() > 50
    assert set(model.accepted) <= set(model.calls)
    for call_id, known in model.calls.items():
        assert model.accepted[call_id] == 1 or (known.cancelled and not model.accepted[call_id])
        assert not known.cancelled or known.forgotten or call_id in model.noted
    # and owners see what is theirs
    with two.reading() as store:
        for owner in OWNERS:
            mine = [i for i, k in model.calls.items() if k.owner == owner and not k.forgotten]
            oldest = list(store.oldest(owner))
            assert sorted(record.id for record in oldest) == sorted(mine)
            assert list(store.newest(owner)) == oldest[::-1]
            assert oldest == sorted(oldest, key=lambda record: (record.created, record.id))
            assert all(store.find(owner, call_id)._p_oid for call_id in mine)
            tally = store.tally(owner)
            assert tally.stored == len(mine)
            assert tally.open == sum(not model.calls[call_id].final for call_id in mine)
            assert tally.bytes == sum(record.size for record in oldest)
