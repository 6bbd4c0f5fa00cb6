# SPDX-License-Identifier: ZPL-2.1
"""Two clients of one ZEO server: never in one transaction, and told of each other's commits."""

from __future__ import annotations

import os
import select
import signal
import threading

import pytest
import transaction

from tests.zeo_server import Server
from wsgi_zasync import CallManagerMiddleware, get_manager
from wsgi_zasync.worker import Worker

pytestmark = pytest.mark.timeout(120)

TEXT = [("Content-Type", "text/plain")]
PLUGINS = {"echo": lambda attempt, value=None: value}
SECRET = "s" * 32


@pytest.fixture
def server(tmp_path):
    with Server(tmp_path) as server:
        yield server


@pytest.fixture
def client(server):
    """Open databases, each a client of its own."""
    made = []

    def connect():
        made.append(server.open())
        return made[-1]

    yield connect
    for database in made:
        database.close()


def test_the_hosts_client_is_used_although_another_is_configured(client, ask, stored_ids):
    hosts, ours = client(), client()

    def app(environ, start_response):
        manager = transaction.TransactionManager(explicit=True)
        manager.begin()
        connection = hosts.open(transaction_manager=manager)
        environ |= {"tm.active": True, "tm.manager": manager}
        connection.root()["note"] = "written"
        call = get_manager(environ).put("echo")
        assert get_manager(environ).connection is connection
        manager.commit()
        connection.close()
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    application = CallManagerMiddleware(app, ours, plugins=PLUGINS, secret=SECRET)
    identifier = ask(application).text

    assert stored_ids(hosts) == [identifier]
    assert ask(application, f"/_zasync/calls/{identifier}").json["state"] == "waiting"


def test_a_poll_is_woken_by_the_commit_of_another_client(client, ask):
    ours, workers = client(), client()

    def app(environ, start_response):
        call = get_manager(environ).put("echo", 7)
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    application = CallManagerMiddleware(app, ours, plugins=PLUGINS, secret=SECRET)
    identifier = ask(application).text
    worker = Worker(workers, plugins=PLUGINS, secret=SECRET)
    running = threading.Thread(target=worker.run_once)
    running.start()

    response = ask(application, f"/_zasync/calls/{identifier}?wait=20")
    running.join()
    worker.stop()

    assert response.json["state"] == "succeeded"
    assert response.json["result"] == 7


def test_a_call_is_found_by_another_client_as_soon_as_it_is_committed(client, ask):
    def app(environ, start_response):
        call = get_manager(environ).put("echo")
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    one, other = (
        CallManagerMiddleware(app, client(), plugins=PLUGINS, secret=SECRET) for _ in range(2)
    )
    ask(other)

    answers = [ask(other, f"/_zasync/calls/{ask(one).text}").status_int for _ in range(100)]

    assert answers == [200] * 100


def test_two_processes_put_side_by_side(client, ask, stored_ids):
    def app(environ, start_response):
        call = get_manager(environ).put("echo")
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    databases = [client(), client()]
    applications = [
        CallManagerMiddleware(app, database, plugins=PLUGINS, secret=SECRET)
        for database in databases
    ]
    told, refused = [], []

    def requests(application):
        for _ in range(20):
            response = ask(application)
            (told if response.status_int == 200 else refused).append(response.text)

    threads = [threading.Thread(target=requests, args=(each,)) for each in applications * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert refused == []
    assert sorted(stored_ids(databases[0])) == sorted(told)
    assert len(set(told)) == 80


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_a_connection_to_the_server_of_its_own(server, ask):
    # Given a process that is connected already
    def app(environ, start_response):
        call = get_manager(environ).put("echo")
        start_response("200 OK", TEXT)
        return [call.id.encode()]

    application = CallManagerMiddleware(app, zodb_uri=server.uri, plugins=PLUGINS, secret=SECRET)
    told = {ask(application).text}
    children = []

    # When it forks, as preforking servers do, and all of them serve requests
    for _ in range(2):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                identifier = ask(application).text
                status = ask(application, f"/_zasync/calls/{identifier}").status
                os.write(writer, f"{status} {identifier}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        children.append((pid, reader))
    told.add(ask(application).text)

    # Then each has put its own call, and the parent sees them all
    for pid, reader in children:
        answered, _, _ = select.select([reader], [], [], 60)
        if not answered:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        answer = os.read(reader, 1000).decode()
        os.close(reader)
        assert answer.startswith("200 OK ")
        told.add(answer.split()[-1])
    assert len(told) == 4
    for identifier in told:
        assert ask(application, f"/_zasync/calls/{identifier}").status_int == 200
    application.stop()
