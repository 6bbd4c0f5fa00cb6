# SPDX-License-Identifier: ZPL-2.1
"""Which commits ring the bell of a worker, and for what."""

from __future__ import annotations

import pytest

from wsgi_zasync.worker.waking.bell import Bell
from wsgi_zasync.worker.waking.listening import Listener

RUNS, MAILBOX, INBOX, OTHER = b"runs", b"mailbox", b"inbox", b"other"


class Signal:
    """Of a database whose objects need not be fetched."""

    def fetch(self, oids, tid):
        pass

    def until_visible(self, tid):
        pass


@pytest.fixture
def bell():
    return Bell()


@pytest.fixture
def listener(bell):
    """One of a worker that runs a call, and has accepted what there was."""
    made = Listener(Signal(), bell, running=lambda: {RUNS: 1}, is_announcing=lambda: False)
    made.mailboxes = frozenset({MAILBOX})
    made.looked(frozenset({INBOX}))
    return made


@pytest.mark.parametrize(
    ("oids", "news", "mail"),
    [
        ({INBOX}, True, False),
        ({MAILBOX}, False, True),
        # A mailbox that comes into being with its first message is known by its call only
        ({RUNS}, False, True),
        ({INBOX, RUNS}, True, True),
        ({OTHER}, False, False),
        (set(), False, False),
    ],
)
def test_a_commit_of_another_process_rings_for_what_it_has_changed(
    listener, bell, oids, news, mail
):
    listener.told(b"7", frozenset(oids))

    assert bell.take_news() == (news, mail, b"7" if news or mail else None)


def test_a_commit_of_this_process_may_always_have_put_something(listener, bell):
    listener.told(None, frozenset({OTHER}))

    assert bell.take_news() == (True, False, None)


def test_while_it_accepts_everything_may_be_news(listener, bell):
    listener.look(accepts=True)

    listener.told(b"7", frozenset({OTHER}))

    assert bell.take_news() == (True, False, b"7")


def test_who_found_nothing_to_watch_watches_what_it_did(listener, bell):
    listener.looked(frozenset())

    listener.told(b"7", frozenset({INBOX}))

    assert bell.has_news


def test_what_cannot_be_fetched_ahead_is_news_all_the_same(listener, bell, monkeypatch):
    def lost(oids, tid):
        raise ConnectionError

    monkeypatch.setattr(listener.signal, "fetch", lost)

    with pytest.raises(ConnectionError):
        listener.told(b"7", frozenset({INBOX}))

    assert bell.has_news
