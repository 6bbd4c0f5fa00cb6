# SPDX-License-Identifier: ZPL-2.1
"""A disk that is full, or cannot be written any more: calls wait for it, and none is to blame."""

from __future__ import annotations

import errno

import pytest
import ZODB
from ZODB.MappingStorage import MappingStorage
from ZODB.POSException import ReadOnlyError

from tests.integration.stepping import Site
from wsgi_zasync import CallState
from wsgi_zasync.worker.desk import StorageAway

#: Bytes of a transaction for which there is room on any disk here.
SMALL = 20_000


class Disk(MappingStorage):
    """A storage on a disk with room for transactions of so many bytes."""

    room = float("inf")
    is_read_only = False

    def tpc_begin(self, transaction):
        if self.is_read_only:
            raise ReadOnlyError
        super().tpc_begin(transaction)

    def tpc_vote(self, transaction):
        if sum(map(len, self._tdata.values())) > self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().tpc_vote(transaction)


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr("wsgi_zasync.worker.running.transactions.AWAY_SECONDS", 0.001)
    return Disk()


@pytest.fixture
def site(disk):
    site = Site(ZODB.DB(disk))
    yield site
    site.close()


def go_on(site, service, times):
    """Let a worker go on whose turns may fail, as its own thread would; returns how many did."""
    failed = 0
    for _ in range(times):
        try:
            service.turn()
            service.bell.wait(0.01)
            service.turn()
        except StorageAway:
            failed += 1
            service.rescuer.forget()
        site.clock.advance(5.1)
    return failed


@pytest.mark.parametrize("runs", ["thread", "transaction"])
@pytest.mark.parametrize("is_read_only", [False, True])
def test_a_full_disk_is_waited_for_and_fails_neither_call_nor_callback(
    site, disk, runs, is_read_only
):
    # Given a disk that becomes full, or a storage that becomes read-only, while a call runs
    ran = []

    def note(attempt):
        if not ran:
            disk.room, disk.is_read_only = 0, is_read_only
        ran.append(attempt.number)
        return 7

    site.add("note", note, runs=runs)
    with site.calls() as calls:
        call = calls.put("note").on_success("string:${result}").id
    service = site.service("first", one_by_one=False)

    # When that lasts, it is not run again and again
    assert go_on(site, service, 10) >= 5
    assert ran == [1]

    # Then it succeeds with its callback once there is room
    disk.room, disk.is_read_only = float("inf"), False
    go_on(site, service, 10)
    with site.calls() as calls:
        found = calls.get(call)
        assert (found.state, [c.value for c in found.callbacks]) == (CallState.SUCCEEDED, ["7"])
        assert found.attempts == 1


def test_a_call_that_is_too_large_for_what_is_left_fails_while_others_go_on(site, disk):
    def fill(attempt):
        attempt.root["large"] = "x" * (2 * SMALL)

    site.add("fill", fill, runs="transaction")
    site.add("echo", lambda attempt, value: value)
    large = site.put("fill")
    service = site.service("first", one_by_one=False)
    disk.room = SMALL

    for n in range(400):
        go_on(site, service, 1)
        if site.state(large) == CallState.FAILED:
            break
        if n < 10:
            small = site.put("echo", n)

    assert site.state(small) == CallState.SUCCEEDED
    with site.calls() as calls:
        assert (calls.get(large).failure.type, calls.get(large).attempts) == ("OSError", 1)


def test_a_call_that_waits_for_a_disk_can_be_cancelled(site, disk):
    def fill(attempt):
        attempt.root["large"] = "x" * (2 * SMALL)

    site.add("fill", fill, runs="transaction")
    call = site.put("fill")
    service = site.service("first", one_by_one=False)
    disk.room = SMALL
    go_on(site, service, 3)
    with site.calls() as calls:
        calls.cancel(call)

    go_on(site, service, 3)

    assert site.state(call) == CallState.CANCELLED
