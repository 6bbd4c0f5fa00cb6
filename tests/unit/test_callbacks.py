# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest

from wsgi_zasync import CallState
from wsgi_zasync.callbacks import Callback


@pytest.mark.parametrize(
    ("on", "ends"),
    [
        ("success", {CallState.SUCCEEDED}),
        ("failure", {CallState.FAILED}),
        ("cancel", {CallState.CANCELLED, CallState.EXPIRED}),
        ("any", {state for state in CallState if state.is_final}),
        ("event", set()),
    ],
)
def test_a_callback_is_for_the_ends_that_it_waits_for(on, ends):
    callback = Callback(on=on, text="nothing")

    assert {state for state in CallState if state.is_final and callback.is_for(state)} == ends


def test_one_that_is_done_at_last_tells_of_no_failure():
    failed = Callback(on="any", text="nothing").failed("KeyError: 'x'")

    done = failed.done(7)

    assert (failed.state, failed.error) == ("failed", "KeyError: 'x'")
    assert (done.state, done.value, done.error) == ("done", 7, None)


@pytest.mark.parametrize("author", [None, ("", "ann")])
@pytest.mark.parametrize("names", [{}, {"name": "news"}])
def test_what_is_stored_of_one_is_all_of_it(author, names):
    declared = Callback.from_plain(Callback.declared("success", "nothing", names, author))
    assert declared == Callback(on="success", text="nothing", names=names, author=author)

    for each in (declared, declared.done(None), declared.failed("KeyError: 'x'")):
        assert Callback.from_plain(each.to_plain()) == each
