# SPDX-License-Identifier: ZPL-2.1
"""Workers whose storage fails, and who die, at every place and at random: all calls end, once."""

from __future__ import annotations

import random

import pytest
from transaction.interfaces import TransientError
from ZEO.Exceptions import ClientDisconnected
from ZODB.POSException import ConflictError

from tests.integration.stepping import Site
from wsgi_zasync import CallIsFinal, CallState, RetryPolicy
from wsgi_zasync.errors import Fenced
from wsgi_zasync.store import open_store
from wsgi_zasync.worker.desk import StorageAway

#: Where a worker's acceptor asks the storage for something, and where others do by its connection.
PLACES = {
    "acceptor": ("begin", "_accept"),
    "mail": ("cancelled", "mailboxes", "still_owed"),
}

ERRORS = (
    ClientDisconnected("gone"),
    StorageAway("gone"),
    ConflictError("others write"),
    RuntimeError("nobody knows why"),
)


class Weather:
    """Raises what may go wrong, at random, until it clears up."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.is_fine = False
        self.faults = 0

    def breaks(self, chance):
        if self.is_fine or self.random.random() >= chance:
            return None
        self.faults += 1
        return self.random.choice(ERRORS)

    def over(self, function, chance):
        """The function, which may fail before it begins."""

        def may_fail(*args, **kwargs):
            if (error := self.breaks(chance)) is not None:
                raise error
            return function(*args, **kwargs)

        return may_fail

    def over_commit(self, commit, chance):
        """A commit that may fail before it comes about, or after without saying so."""

        def may_fail(transaction, oids=()):
            if (error := self.breaks(chance)) is not None:
                raise error
            commit(transaction, oids)
            if self.breaks(chance) is not None:
                raise ClientDisconnected("it has committed, but could not say so")

        return may_fail


class Stage(Site):
    """Workers that come and go, and calls of all kinds."""

    def __init__(self, seed):
        super().__init__(max_running=20, threads=3)
        self.weather = Weather(seed)
        self.random = random.Random(seed + 1)
        self.names = 0
        self.asked = {}
        retry = RetryPolicy(attempts=100, delay_seconds=1, jitter=0, interruptions=1000)
        self.add("effect", lambda *given: self.effect(*given), runs="transaction", retry=retry)
        for runs in ("thread", "reactor"):
            self.add(runs, lambda *given: self.plain(*given), runs=runs, retry=retry)

    def effect(self, attempt, number):
        effects = attempt.root.setdefault("effects", {})
        attempt.root["effects"] = {**effects, number: effects.get(number, 0) + 1}
        return self.plain(attempt, number)

    def plain(self, attempt, number):
        if attempt.number <= number % 3:
            raise ConnectionError
        return number

    def hire(self):
        """A worker whose storage fails now and then."""
        self.names += 1
        service = self.service(f"w{self.names}", one_by_one=False)
        membership, runner = service.membership, service.dispatcher._transaction
        for name, places in PLACES.items():
            part = getattr(service, name)
            for place in places:
                setattr(part, place, self.weather.over(getattr(part, place), 0.1))
        membership.commit = self.weather.over_commit(membership.commit, 0.1)
        runner._stopping.wait = lambda seconds: False
        return service

    def ask(self, number):
        """Put a call, of some kind and with some options."""
        kind = self.random.choice(("effect", "thread", "reactor"))
        options = {"begin_after": 7} if self.random.random() < 0.2 else {}
        with self.calls() as calls:
            call = calls.options(**options).put(kind, number)
            call.on_success("string:${result}")
            self.asked[number] = (call.id, kind)

    def meddle(self):
        """Cancel a call, or declare one more callback of it."""
        if not self.asked:
            return
        call_id, _ = self.random.choice(list(self.asked.values()))
        try:
            with self.calls() as calls:
                if self.random.random() < 0.5:
                    calls.cancel(call_id)
                else:
                    calls.get(call_id).on_any("string:late")
        except (CallIsFinal, ConflictError):
            pass  # too late, or somebody was faster: as for any request

    def turn(self, service):
        try:
            if service.bell.take_fenced():
                raise Fenced("told by a thread")
            service.turn()
        except Fenced:
            try:
                service.start_anew()
            except (TransientError, StorageAway, RuntimeError):
                service.bell.fenced()
        except (ClientDisconnected, StorageAway):
            service.rescuer.forget()
        except (TransientError, RuntimeError):
            pass  # tried again, as its thread would
        service.bell.wait(0.002)

    def is_done(self):
        with self.calls() as calls:
            return calls.count("waiting") + calls.count("running") == 0 and not any(
                callback.state == "pending" and callback.on != "success"
                for call in calls.mine(limit=1000)
                for callback in call.callbacks
            )


@pytest.mark.parametrize("seed", range(4))
def test_whatever_fails_all_calls_end_once_with_their_callbacks(seed):
    stage = Stage(seed)
    try:
        # Given two workers, calls, meddling users, outages, conflicts, and deaths
        team = [stage.hire(), stage.hire()]
        for number in range(60):
            stage.ask(number)
            if stage.random.random() < 0.3:
                stage.meddle()
            for service in list(team):
                stage.turn(service)
            if stage.random.random() < 0.1:
                stage.clock.advance(stage.random.choice((1.0, 5.1)))
            if stage.random.random() < 0.06:
                # It is not told, and its threads go on.
                team.remove(stage.random.choice(team))
                team.append(stage.hire())

        # When it clears up
        stage.weather.is_fine = True
        for _ in range(400):
            for service in team:
                stage.turn(service)
            stage.clock.advance(0.5)
            if stage.is_done() and all(len(s.holdings) == 0 for s in team):
                break

        # Then each call has ended, and what it did in the database is there once
        with stage.calls() as calls:
            effects = calls.root.get("effects", {})
            for number, (call_id, kind) in stage.asked.items():
                call = calls.get(call_id)
                assert call.state in (CallState.SUCCEEDED, CallState.CANCELLED), call.failure
                done = call.state is CallState.SUCCEEDED
                if kind == "effect":
                    assert effects.get(number, 0) == int(done)
                for callback in call.callbacks:
                    wanted = "done" if done or callback.on == "any" else "pending"
                    assert callback.state == wanted, (callback, call.state)
            tally = open_store(calls.connection).tally(("", "ann"))
            assert (tally.open, tally.stored) == (0, 60)
        # and nobody holds anything
        assert [len(service.holdings) for service in team] == [0] * len(team)
        assert not any(+service.holdings.by_plugin for service in team)
        assert stage.weather.faults > 5
    finally:
        stage.close()
