# SPDX-License-Identifier: ZPL-2.1
"""What a manager reads to answer."""

from __future__ import annotations

import pytest

from wsgi_zasync.testing import calls_of, deployment_of, run_calls

ENDED = 150

PLUGINS = {"render": lambda attempt: None}


@pytest.mark.parametrize(("state", "count"), [("waiting", 2), ("running", 0), ("succeeded", ENDED)])
def test_to_count_what_is_open_reads_little_of_what_has_ended(db, state, count):
    # Given an owner of many calls, all ended but the last two
    deployment = deployment_of(PLUGINS)
    with calls_of(db, "ann", deployment) as calls:
        for _ in range(ENDED):
            calls.put("render")
    run_calls(db, PLUGINS)
    with calls_of(db, "ann", deployment) as calls:
        for _ in range(2):
            calls.put("render")
    # When those in a state are counted, then few objects are loaded
    with calls_of(db, "ann", deployment) as calls:
        calls.connection.cacheMinimize()
        calls.connection.getTransferCounts(clear=True)
        assert calls.count(state) == count
        loaded, _ = calls.connection.getTransferCounts()
    assert loaded < ENDED // 2
