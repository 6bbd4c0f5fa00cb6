# SPDX-License-Identifier: ZPL-2.1
"""Whose calls the thread for long callbacks ends, and when it tries again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from wsgi_zasync.errors import Fenced
from wsgi_zasync.testing import FakeClock, deployment_of
from wsgi_zasync.worker.long_callbacks import LongCallbacks, _InLine
from wsgi_zasync.worker.waking.bell import Bell

OURS, BEFORE = b"our area", b"the one that was taken over"


@pytest.fixture
def membership():
    return SimpleNamespace(area_oid=OURS)


@pytest.fixture
def long(membership):
    deployment = deployment_of(clock=FakeClock())
    return LongCallbacks(None, deployment, membership, None, Bell(), 1)


@pytest.fixture
def report():
    held = SimpleNamespace(owner=("", "ann"), call_id="aa-b", conflicts=0, callbacks_error=None)
    return SimpleNamespace(held=held, outcome=None, order=None)


def raising(error, before=lambda: None):
    def written(*args):
        before()
        raise error

    return written


@pytest.mark.parametrize(("area", "is_ended"), [(OURS, True), (BEFORE, False)])
def test_what_belongs_to_somebody_else_by_now_is_not_ended(
    long, report, monkeypatch, area, is_ended
):
    written = []
    monkeypatch.setattr(long, "_written", lambda *args: written.append(args))

    long._end(None, _InLine(report, area))

    assert len(written) == len(long._bell) == is_ended


@pytest.mark.parametrize(("area_meanwhile", "is_told"), [(OURS, True), (b"a new one", False)])
def test_a_worker_is_told_that_it_was_taken_for_dead_unless_it_knows(
    long, membership, report, monkeypatch, area_meanwhile, is_told
):
    def meanwhile():
        membership.area_oid = area_meanwhile

    monkeypatch.setattr(long, "_written", raising(Fenced("dead"), meanwhile))

    long._end(None, _InLine(report, OURS))

    assert long._bell.take_fenced() is is_told
    assert len(long) == 0


def test_what_fails_is_tried_again_later_and_later(long, report, monkeypatch):
    monkeypatch.setattr(long, "_written", raising(ValueError("no")))
    each, pauses = _InLine(report, OURS), []

    for _ in range(3):
        long._end(SimpleNamespace(connection=None), each)
        pauses.append(each.at - long._clock.monotonic())
        assert long.reports() == [report]
        long.drop()

    assert report.held.conflicts == 3
    assert 0 < pauses[0] < pauses[1] < pauses[2]


def test_what_fails_when_it_is_somebody_elses_is_not_tried_again(
    long, membership, report, monkeypatch
):
    monkeypatch.setattr(
        long, "_written", raising(ValueError("no"), lambda: setattr(membership, "area_oid", b"new"))
    )

    long._end(SimpleNamespace(connection=None), _InLine(report, OURS))

    assert long.reports() == []
