# SPDX-License-Identifier: ZPL-2.1
"""Twenty users, two web processes, two workers, one ZEO server: who gets what, and how often."""

from __future__ import annotations

import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ZEO

sys.path.insert(0, str(Path(__file__).parent / "many_users"))

from cluster import PATIENCE, Client, Site
from diaries import USERS, credentials, prepare

CALLS = 100
#: Calls that are put by one request, in one transaction.
TOGETHER = 5

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


class Run:
    """What came of it all, for the tests to look at."""

    def __init__(self, site):
        self.site = site
        #: By user: the call of each address that was asked for.
        self.put = {}
        #: By user: what the user sees of the own calls when all have ended.
        self.seen = {}
        #: By user: (status, headers, body) of looking at somebody else's call, by each method.
        self.foreign = {}
        self.diaries = {}
        self.seconds = {}

    def act(self, user):
        """One user's morning: put everything, then wait for it, all by HTTP."""
        number = USERS.index(user)
        client = Client(user, credentials(user), self.site.ports)
        try:
            put = {}
            for first in range(0, CALLS, TOGETHER):
                pages = [
                    self.site.pages.url(f"/{user}/{page}")
                    for page in range(first, first + TOGETHER)
                ]
                put |= client.put(pages, trespass=pages[:1], web=(number + first) % 2)
            # Asked of the other web process than the last put.
            return put, client.wait_for_all(CALLS, web=(number + first + 1) % 2)
        finally:
            client.close()

    def pry(self, user):
        """The same user looks for calls of all others, and for one that there never was."""
        client = Client(user, credentials(user), self.site.ports)
        own = next(iter(self.put[user].values()))
        never = own[:-4] + ("aaaa" if own[-4:] != "aaaa" else "bbbb")
        others = [self.put[other].values() for other in USERS if other != user]
        try:
            return [
                client.ask(method, f"/_zasync/calls/{call_id}{rest}", web).whole
                for web, (method, rest) in enumerate((("GET", ""), ("DELETE", "")))
                for call_id in [never, *(next(iter(ids)) for ids in others)]
            ]
        finally:
            client.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Everything happens once; the tests below look at what came of it."""
    began = time.monotonic()
    # Sockets have short names.
    site = Site(tmp_path_factory.mktemp("m"))
    result = Run(site)
    try:
        site.start_zeo()
        db = ZEO.DB(site.socket, wait_timeout=PATIENCE)
        try:
            with db.transaction() as connection:
                prepare(connection.root())
            site.start_others()
            result.seconds["to start"] = time.monotonic() - began
            with ThreadPoolExecutor(len(USERS)) as pool:
                for user, (put, seen) in zip(USERS, pool.map(result.act, USERS), strict=True):
                    result.put[user], result.seen[user] = put, seen
                result.seconds["until all had ended"] = time.monotonic() - began
                result.foreign = dict(zip(USERS, pool.map(result.pry, USERS), strict=True))
            with db.transaction() as connection:
                result.diaries = {
                    user: dict(diary.entries)
                    for user, diary in connection.root()["diaries"].items()
                }
        finally:
            db.close()
        result.exit_codes = site.stop()
    except BaseException:
        for process in site.processes.values():
            print(f"{process.name}:", *process.lines[-40:], sep="\n  ")
        raise
    finally:
        site.close()
    result.seconds["in all"] = time.monotonic() - began
    return result


def lines_of(run, name, pattern):
    return sum(pattern in line for line in run.site.processes[name].lines)


def test_every_call_was_run_exactly_once(run, capsys):
    calls = [call for seen in run.seen.values() for call in seen]
    asked = run.site.pages.asked
    by_worker = {name: lines_of(run, name, " succeeded ") for name in ("worker1", "worker2")}
    with capsys.disabled():
        print(
            f"\n{len(calls)} calls of {len(run.seen)} users: "
            f"{dict(Counter(call['state'] for call in calls))}, by {by_worker}; "
            f"{len(asked)} addresses read, {sum(n != 1 for n in asked.values())} not once; "
            f"{sum(map(len, run.diaries.values()))} entries; "
            f"{ ({what: round(seconds, 1) for what, seconds in run.seconds.items()}) } s"
        )

    assert len(calls) == len(USERS) * CALLS == 2000
    assert {call["state"] for call in calls} == {"succeeded"}
    assert {call["attempts"] for call in calls} == {1}
    # What the server saw: each address of each user, once.
    assert asked == Counter(f"/{user}/{page}" for user in USERS for page in range(CALLS))
    assert sum(by_worker.values()) == 2000
    assert min(by_worker.values()) > 0


def test_every_callback_was_evaluated_exactly_once_as_its_owner(run):
    for user in USERS:
        # One line for each call: written by this user, of the page that this call had read.
        assert run.diaries[user] == {
            call_id: ((user, call_id, url, f"the page /{url.split('/', 3)[3]}"),)
            for url, call_id in run.put[user].items()
        }


def test_no_callback_could_do_what_its_owner_may_not(run):
    ended = Counter()
    for seen in run.seen.values():
        for call in seen:
            for callback in call["callbacks"]:
                ended[callback["state"], (callback["error"] or "").partition(":")[0]] += 1
            assert call["callbacks_failed"] == len(call["callbacks"]) - 1

    trespasses = len(USERS) * CALLS // TOGETHER
    assert ended == {("done", ""): 2000, ("failed", "Unauthorized"): trespasses}


def test_every_user_sees_the_own_calls_and_no_others(run):
    for user in USERS:
        assert {call["id"] for call in run.seen[user]} == set(run.put[user].values())
        assert {(call["owner"]["source"], call["owner"]["id"]) for call in run.seen[user]} == {
            ("", user)
        }
    assert len({call_id for ids in run.put.values() for call_id in ids.values()}) == 2000


def test_somebody_elses_call_answers_as_one_that_there_never_was(run):
    answers = [answer for answers in run.foreign.values() for answer in answers]

    assert len(answers) == len(USERS) * len(USERS) * 2
    assert {status for status, _, _ in answers} == {404}
    assert all(answer == answers[0] for answer in answers)


def test_all_processes_end_when_asked_to_and_nothing_went_wrong_in_them(run):
    assert set(run.exit_codes.values()) == {0}
    for process in run.site.processes.values():
        assert "Traceback" not in "".join(process.lines), process.name
