# SPDX-License-Identifier: ZPL-2.1
"""Databases that cannot be opened."""

from __future__ import annotations

import sys
from traceback import format_exception

import pytest
from transaction.interfaces import TransientError
from ZEO.ClientStorage import ClientStorage
from ZODB import DB
from ZODB.FileStorage import FileStorage
from ZODB.POSException import ReadConflictError
from ZODB.utils import z64

from tests.zeo_server import Server
from wsgi_zasync.cli import main
from wsgi_zasync.errors import ConfigurationError
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.opening import open_database
from wsgi_zasync.settings import SharedSettings
from wsgi_zasync.store.databases import close_together
from wsgi_zasync.worker import Worker


class Error(Exception):
    """As a driver of an SQL database has it."""


class OperationalError(Error):
    pass


class OfNobodyWeKnow(Exception):
    pass


def refused():
    raise OperationalError("connection to server failed:\nNo such file or directory\n")


def test_an_sql_server_that_is_away_is_as_transient_as_any_other():
    with pytest.raises(TransientError, match="No such file or directory$"):
        open_database(SharedSettings(db=refused))


def test_a_server_that_is_not_there_is_named(tmp_path):
    uri = f"zeo://{tmp_path}/no.sock?wait_timeout=1"

    with pytest.raises(TransientError) as raised:
        open_database(SharedSettings(zodb_uri=uri, secret="x" * 32))

    assert f"{tmp_path}/no.sock" in format_exception(raised.value)[-1]


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("mysql://ann:pw@127.0.0.1/site", "no driver for it is installed"),
        ("postgres://ann:pw@127.0.0.1/site?driver=psycopg9", "its driver 'psycopg9' is not"),
    ],
)
def test_a_driver_that_is_not_installed_is_told_in_one_line(uri, why, monkeypatch):
    # Given RelStorage without the driver for this kind of database
    for name in ("MySQLdb", "pymysql", "mysql", "mysql.connector"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(ConfigurationError) as raised:
        open_database(SharedSettings(zodb_uri=uri, secret="x" * 32))

    told = str(raised.value)
    assert why in told
    assert "wsgi-zasync[postgres]" in told
    assert "\n" not in told
    assert "pw" not in told
    assert len(told) < 200


def test_what_is_no_outage_is_raised_as_it_is():
    def fails():
        raise OfNobodyWeKnow

    with pytest.raises(OfNobodyWeKnow):
        open_database(SharedSettings(db=fails))


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("nothing://ann:hunter2@db/zodb", "RelStorage"),
        ("zeo://ann:hunter2@[db/zodb", "Invalid"),
        ("zeo://ann:hunter2/more@db:8100", "%2F"),
    ],
)
def test_an_address_that_cannot_be_used_is_told_without_its_password(uri, why):
    with pytest.raises(ConfigurationError, match=why) as caught:
        open_database(SharedSettings(zodb_uri=uri, secret="s" * 40))

    assert "hunter2" not in "".join(format_exception(caught.value))


def several(directory, *names):
    """A file of FileStorages."""
    path = directory / "zodb.conf"
    path.write_text(
        "".join(
            f"<zodb {name}>\n<filestorage>\npath {directory}/{name}.fs\n</filestorage>\n</zodb>\n"
            for name in names
        )
    )
    return path


@pytest.mark.parametrize("names", [("main", "more", "zasync"), ("zasync", "main", "more")])
def test_of_several_databases_the_first_is_the_applications_but_for_that_of_calls(tmp_path, names):
    path = several(tmp_path, *names)

    db = open_database(SharedSettings(zodb_conf=path))

    assert db.database_name == "main"
    assert set(db.databases) == set(names)
    close_together(db)


def test_who_opens_several_databases_closes_them(tmp_path):
    path = several(tmp_path, "main", "zasync")
    for _ in range(2):
        worker = Worker(zodb_conf=path, secret="s" * 40)
        assert worker.run_once() == 0
        worker.stop()

    middleware = CallManagerMiddleware(lambda e, s: [], zodb_conf=path, worker="embedded")
    middleware.start()
    middleware.stop()
    close_together(open_database(SharedSettings(zodb_conf=path)))


def test_of_several_databases_none_stays_open_if_one_cannot_be_opened(tmp_path):
    path = several(tmp_path, "main", "zasync")
    path.write_text(path.read_text().replace("<zodb zasync>", "<zodb zasync>\ndatabase-name main"))

    with pytest.raises(ConfigurationError, match="already in databases"):
        open_database(SharedSettings(zodb_conf=path))

    FileStorage(str(tmp_path / "main.fs")).close()


@pytest.mark.parametrize("command", ["list", "check", "worker"])
def test_commands_tell_of_an_sql_server_that_is_away_in_one_line(
    tmp_path, capsys, monkeypatch, command
):
    (tmp_path / "zodb.conf").write_text("<zodb>\n<mappingstorage>\n</mappingstorage>\n</zodb>\n")
    path = tmp_path / "site.ini"
    path.write_text("[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_conf = zodb.conf\n")
    monkeypatch.setattr("wsgi_zasync.opening.open_together", lambda sections: refused())
    monkeypatch.setattr("wsgi_zasync.cli.working.log_to_stderr", lambda kind: None)

    assert main([command, str(path)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be reached: connection to server failed" in line


class Late(ClientStorage):
    """A client that connected when there was no root, and was not told of it yet."""

    def lastTransaction(self):
        return z64


def test_a_new_database_is_opened_while_another_process_makes_its_root(tmp_path):
    def opener(clients):
        storage = clients.pop(0)(server.socket)
        try:
            return DB(storage)
        except ReadConflictError:
            storage.close()
            raise

    with Server(tmp_path) as server:
        server.open().close()
        with pytest.raises(ReadConflictError):
            opener([Late])

        clients = [Late, ClientStorage]
        open_database(SharedSettings(db=lambda: opener(clients))).close()

        assert not clients


def test_a_conflict_that_does_not_end_is_told():
    tries = []

    def fails():
        tries.append(1)
        raise ReadConflictError("no root")

    with pytest.raises(TransientError, match="no root"):
        open_database(SharedSettings(db=fails))
    assert len(tries) > 1
