# SPDX-License-Identifier: ZPL-2.1
"""Databases that cannot be opened."""

from __future__ import annotations

import pytest
from transaction.interfaces import TransientError

from wsgi_zasync.cli import main
from wsgi_zasync.opening import open_database
from wsgi_zasync.settings import SharedSettings


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


def test_what_is_no_outage_is_raised_as_it_is():
    def fails():
        raise OfNobodyWeKnow

    with pytest.raises(OfNobodyWeKnow):
        open_database(SharedSettings(db=fails))


@pytest.mark.parametrize("command", ["list", "check", "worker"])
def test_commands_tell_of_an_sql_server_that_is_away_in_one_line(
    tmp_path, capsys, monkeypatch, command
):
    (tmp_path / "zodb.conf").write_text("<zodb>\n<mappingstorage>\n</mappingstorage>\n</zodb>\n")
    path = tmp_path / "site.ini"
    path.write_text("[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_conf = zodb.conf\n")
    monkeypatch.setattr("ZODB.config.databaseFromURL", lambda url: refused())
    monkeypatch.setattr("wsgi_zasync.cli.working.log_to_stderr", lambda kind: None)

    assert main([command, str(path)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be reached: connection to server failed" in line
