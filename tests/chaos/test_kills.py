# SPDX-License-Identifier: ZPL-2.1
"""Workers, producers and the ZEO server are killed at random moments; nothing is lost or doubled.

The short run is part of ``make test``; the long one is ``make chaos``. Both report their counts.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from textwrap import indent

import pytest
from actors import MARK, PLUGINS, QUOTAS, TREES, open_db, prepare
from ZODB.POSException import ConflictError

from wsgi_zasync.call import Failure
from wsgi_zasync.settings import Quotas
from wsgi_zasync.store import open_store
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.testing import calls_of, deployment_of

ACTORS = Path(__file__).with_name("actors.py")
ROOT = Path(__file__).parents[2]

#: What must not be, as ``Arena.counts`` names it.
WRONG = (
    "lost",
    "appeared",
    "without effect",
    "effects doubled",
    "callbacks not done",
    "callbacks without effect",
    "callbacks' effects doubled",
)

#: Calls without success that are told of one by one.
TOLD = 10


class Arena:
    """A ZEO server, producers and workers in processes of their own."""

    def __init__(self, directory, *, calls, dead_after, seed, pace=0.0):
        self.directory = directory
        self.socket = str(directory / "zeo.sock")
        self.calls = calls
        self.pace = pace
        self.dead_after = dead_after
        self.random = random.Random(seed)
        self.processes = {}
        self.kills = Counter()
        self.log = open(directory / "log", "ab")  # noqa: SIM115 - closed by close()
        self.start("zeo")
        db = open_db(self.socket)
        prepare(db, self.producers)
        self.db = db

    producers = ("p0", "p1")
    workers = ("w0", "w1", "w2")

    def start(self, name):
        """Start a process, or start it again."""
        if name == "zeo":
            Path(self.socket).unlink(missing_ok=True)
            file = str(self.directory / "Data.fs")
            command = ["-m", "ZEO.runzeo", "-a", self.socket, "-f", file]
        elif name in self.producers:
            share = self.calls // len(self.producers)
            command = [str(ACTORS), "producer", self.socket, name, str(share), str(self.pace)]
        else:
            named = "named" if name == "w0" else "anonymous"
            command = [str(ACTORS), "worker", self.socket, name, str(self.dead_after), named]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        self.processes[name] = subprocess.Popen(
            [sys.executable, *command], stdout=self.log, stderr=self.log, env=environ
        )

    def kill(self, name):
        """Kill a process at once, and start it again."""
        process = self.processes[name]
        if process.poll() is not None and name in self.producers:
            return
        process.kill()
        process.wait()
        kind = "server" if name == "zeo" else "producer" if name in self.producers else "worker"
        self.kills[kind] += 1
        self.start(name)

    def look(self):
        """How many calls are put and how many have ended."""
        with self.db.transaction() as connection:
            store = open_store(connection)
            tallies = [store.tally(("", name)) for name in self.producers]
            put = sum(len(tree) for tree in connection.root()["ledger"].values())
            return put, put - sum(tally.open for tally in tallies)

    def is_done(self):
        try:
            put, ended = self.look()
        except Exception:  # the server may be away
            return False
        return put == ended == self.calls

    def wait_until_done(self, seconds):
        until = time.monotonic() + seconds
        pause = threading.Event()
        while not self.is_done():
            assert time.monotonic() < until, f"stuck at {self.look()} of {self.calls}"
            pause.wait(0.2)

    def close(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.db.close()
        self.log.close()

    def counts(self):
        """Everything that can be wrong, counted."""
        with self.db.transaction() as connection:
            root = connection.root()
            effects = {k: n for tree in root["effects"] for k, n in tree.items()}
            ledger = {i for tree in root["ledger"].values() for i in tree.values()}
            store = open_store(connection)
            records = [r for name in self.producers for r in store.oldest(("", name))]
            states = Counter({"succeeded": 0})
            states.update(record.state for record in records)
            ids = {record.id for record in records}
            marks = {k: n for each in root["marks"] for k, n in each.of_calls.items()}
            due = {record.id: len(record.all_callbacks()) for record in records}
            return {
                "calls": len(records),
                "entered": len(ledger),
                "lost": len(ledger - ids),
                "appeared": len(ids - ledger),
                "without effect": len(ids - set(effects)),
                "effects doubled": sum(n != 1 for n in effects.values()),
                "callbacks not done": sum(
                    callback.state != "done" for r in records for callback in r.all_callbacks()
                ),
                "callbacks": sum(due.values()),
                "callbacks without effect": sum(marks.get(i, 0) < n for i, n in due.items()),
                "callbacks' effects doubled": sum(n > due.get(i, 0) for i, n in marks.items()),
                **{f"state {state}": count for state, count in states.items()},
            }

    def unsuccessful(self):
        """What is known of the first calls that have not succeeded, a text each."""
        with self.db.transaction() as connection:
            store = open_store(connection)
            records = (r for name in self.producers for r in store.oldest(("", name)))
            found = (told(record) for record in records if record.state != "succeeded")
            return list(islice(found, TOLD))


def told(record):
    """One call that has not succeeded, and why: for whoever has to find out."""
    text = f"call {record.id} is {record.state} after {record.attempts} attempts"
    if record.failure is None:
        return f"{text}: {record.waiting_reason}"
    failure = Failure.from_plain(record.failure)
    return f"{text}: {failure.type}: {failure.message}\n{indent(failure.traceback_text, '    ')}"


def judge(arena, capsys, happened):
    """Print what came of it, and let nothing be wrong."""
    counts = arena.counts()
    report = "\n".join([f"{happened}: {counts}", *arena.unsuccessful()])
    with capsys.disabled():
        print(f"\n{report}")
    assert counts["calls"] == counts["entered"] == counts["state succeeded"] == arena.calls, report
    assert {name: counts[name] for name in WRONG} == dict.fromkeys(WRONG, 0), report


def run(directory, capsys, *, calls, workers, producers, servers, dead_after, pause, seed=7):
    began = time.monotonic()
    lasts = (workers + producers + servers) * 0.6 * pause
    pace = lasts / (calls / len(Arena.producers))
    arena = Arena(directory, calls=calls, dead_after=dead_after, seed=seed, pace=pace)
    try:
        for name in (*arena.producers, *arena.workers):
            arena.start(name)
        kills = (
            [arena.random.choice(arena.workers) for _ in range(workers)]
            + [arena.random.choice(arena.producers) for _ in range(producers)]
            + ["zeo"] * servers
        )
        arena.random.shuffle(kills)
        moment = threading.Event()
        for name in kills:
            moment.wait(arena.random.uniform(0.2, 1.0) * pause)
            arena.kill(name)
        arena.wait_until_done(120)
        judge(arena, capsys, f"{dict(arena.kills)} in {time.monotonic() - began:.0f} s")
    finally:
        arena.close()


def until(is_so, seconds=30):
    """Wait until something is so; returns what it said."""
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := is_so()):
        assert time.monotonic() < end, "it did not come to be"
        pause.wait(0.05)
    return found


@pytest.mark.slow
def test_a_worker_that_was_stopped_and_taken_over_commits_nothing(tmp_path):
    # Given a worker that is stopped in the middle of a call
    arena = Arena(tmp_path, calls=1, dead_after=3.0, seed=1)
    begun = tmp_path / "begun"
    try:
        arena.start("w1")
        with calls_of(arena.db, "p0", deployment_of(PLUGINS)) as calls:
            call = calls.put("chaos.slow", str(tmp_path))
            calls.root["ledger"]["p0"][0] = call.id
        until(lambda: begun.exists() and begun.read_text())
        arena.processes["w1"].send_signal(signal.SIGSTOP)

        # When another one takes over and runs it, and the first goes on
        arena.start("w2")
        until(lambda: len(begun.read_text().split()) == 2)
        (tmp_path / "go").touch()
        arena.wait_until_done(30)
        arena.processes["w1"].send_signal(signal.SIGCONT)
        until(lambda: b"begins anew" in (tmp_path / "log").read_bytes())

        # Then there is one effect
        counts = arena.counts()
        assert (counts["state succeeded"], counts["effects doubled"]) == (1, 0)

        # And both are workers still
        with calls_of(arena.db, "p0", deployment_of(PLUGINS)) as calls:
            other = calls.put("chaos.slow", str(tmp_path))
            calls.root["ledger"]["p0"][1] = other.id
        arena.calls = 2
        arena.wait_until_done(30)
        assert arena.counts()["effects doubled"] == 0
    finally:
        arena.close()


@pytest.mark.slow
def test_nothing_is_lost_or_doubled_when_processes_are_killed(tmp_path, capsys):
    run(tmp_path, capsys, calls=400, workers=8, producers=3, servers=1, dead_after=3.0, pause=1.2)


@pytest.mark.chaos
@pytest.mark.timeout(3000)
def test_nothing_is_lost_or_doubled_under_a_hundred_kills(tmp_path, capsys):
    run(
        tmp_path,
        capsys,
        calls=5000,
        workers=100,
        producers=50,
        servers=10,
        dead_after=15.0,
        pause=1.5,
    )


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_workers_stopped_at_random_moments_and_continued_double_nothing(tmp_path, capsys):
    # Given calls, and two workers of three of which one after the other is stopped
    dead_after = 3.0
    arena = Arena(tmp_path, calls=1500, dead_after=dead_after, seed=11, pace=0.08)
    moment = threading.Event()
    try:
        for name in (*arena.producers, *arena.workers):
            arena.start(name)
        for number in range(12):
            moment.wait(arena.random.uniform(0.5, 2.0))
            stopped = arena.processes[("w1", "w2")[number % 2]]
            # When it is continued only after it was taken over (or has held the server up: one
            # that is stopped between vote and finish lets nobody commit)
            stopped.send_signal(signal.SIGSTOP)
            moment.wait(2.5 * dead_after)
            stopped.send_signal(signal.SIGCONT)
        arena.wait_until_done(120)

        # Then those that were taken for dead have noticed, and nothing is lost or doubled
        anew = (tmp_path / "log").read_bytes().count(b"begins anew")
        judge(arena, capsys, f"12 stops, {anew} of them taken over")
        assert anew > 0
    finally:
        arena.close()


@pytest.mark.chaos
@pytest.mark.timeout(1200)
def test_workers_that_have_one_call_at_a_time_lose_and_double_nothing_when_killed(tmp_path, capsys):
    # Given two workers with nothing else to do, one of which is killed every second or two
    arena = Arena(tmp_path, calls=0, dead_after=1.0, seed=13)
    began = time.monotonic()
    moment = threading.Event()

    def kill():
        for _ in range(40):
            moment.wait(arena.random.uniform(0.5, 2.5))
            arena.kill(arena.random.choice(("w0", "w1")))

    killer = threading.Thread(target=kill)
    try:
        arena.start("w0")
        arena.start("w1")
        killer.start()

        # When each call is put once the one before has ended; some callbacks come as it runs
        while killer.is_alive():
            put_and_wait(arena, arena.calls)
            arena.calls += 1

        # Then nothing is lost or doubled
        arena.wait_until_done(60)
        judge(
            arena, capsys, f"one at a time, {dict(arena.kills)}, {time.monotonic() - began:.0f} s"
        )
    finally:
        if killer.is_alive():
            killer.join()
        arena.close()


def put_and_wait(arena, number):
    """Put a call as soon as the storage lets us, and wait for its end."""
    deployment = deployment_of(PLUGINS, quotas=Quotas(**QUOTAS))
    with calls_of(arena.db, "p0", deployment) as calls:
        call = calls.put("chaos.effect", number)
        if number % 3 == 0:
            call.on_success(MARK, marks=calls.root["marks"][number % TREES])
        calls.root["ledger"]["p0"][number] = call.id
    oid = call.oid
    is_late = number % 3 == 1
    with signal_for(arena.db).watch(oid) as watch:
        end = time.monotonic() + 60
        while True:
            try:
                with calls_of(arena.db, "p0", deployment) as calls:
                    found = calls.get(call.id)
                    if found.is_final:
                        return
                    if is_late:
                        found.on_success(MARK, marks=calls.root["marks"][number % TREES])
                is_late = False
            except ConflictError:
                continue
            assert time.monotonic() < end, f"call {call.id} is stuck"
            watch.wait(2.0)
