# SPDX-License-Identifier: ZPL-2.1
"""A real server with four threads: who waits does not stop the site."""

from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from waitress.server import create_server
from ZODB import DB
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import get_manager

pytestmark = pytest.mark.timeout(120)

THREADS = 4


@pytest.fixture
def db():
    database = DB(MappingStorage())
    yield database
    database.close()


@pytest.fixture
def site(db, wrap):
    """The application on waitress; what it is asked by: (path, user) -> (status, body)."""

    def app(environ, start_response):
        text = get_manager(environ).put("echo").id if environ["PATH_INFO"] == "/put" else "a page"
        start_response(
            "200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))]
        )
        return [text.encode()]

    def identity(environ):
        return environ.get("HTTP_X_TEST_USER")

    server = create_server(
        wrap(app, identity=identity, wait_limit=1.0), port=0, threads=THREADS, host="127.0.0.1"
    )
    thread = threading.Thread(target=server.run)
    thread.start()

    def ask(path, user="ann"):
        connection = http.client.HTTPConnection("127.0.0.1", server.effective_port, timeout=60)
        try:
            connection.request("GET", path, headers={"X-Test-User": user})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    yield ask
    # In the thread of its loop, which may be looking at its sockets now.
    server.trigger.pull_trigger(server.close)
    thread.join(30)
    assert not thread.is_alive()
    server.task_dispatcher.shutdown()


def test_fifty_that_wait_do_not_keep_a_page_waiting(site, db):
    # Given
    users = [f"user{number}" for number in range(50)]
    ids = {user: site("/put", user)[1].decode() for user in users}

    def wait(user):
        return site(f"/_zasync/calls/{ids[user]}?wait=20", user)

    # When all of them wait, and somebody wants pages meanwhile
    with ThreadPoolExecutor(50) as clients:
        answers = [clients.submit(wait, user) for user in users]
        pages = [site("/page") for _ in range(20)]
        seen = [answer.result(60) for answer in answers]

    # Then each is answered, nobody held more than the one thread that may wait
    assert pages == [(200, b"a page")] * 20
    assert [status for status, _ in seen] == [200] * 50
    assert {json.loads(body)["state"] for _, body in seen} == {"waiting"}
    assert [c for c in db.connectionDebugInfo() if c["opened"]] == []


def test_one_that_waits_leaves_three_threads_to_others(site, db):
    identifier = site("/put")[1].decode()
    with ThreadPoolExecutor(1) as client:
        waiting = client.submit(site, f"/_zasync/calls/{identifier}?wait=20")
        # Pages are answered while it waits; the answer to it comes when its time is up.
        answered_meanwhile = 0
        while not waiting.done():
            assert site("/page") == (200, b"a page")
            answered_meanwhile += 1

    assert answered_meanwhile > 3
    assert json.loads(waiting.result()[1])["state"] == "waiting"
