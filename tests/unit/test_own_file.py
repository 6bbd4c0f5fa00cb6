# SPDX-License-Identifier: ZPL-2.1
"""Which address is of a file that one process has open, and whether that one answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from wsgi_zasync import own_file
from wsgi_zasync.own_file import answers, file_of, socket_beside


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("file:///var/site/Data.fs", "/var/site/Data.fs"),
        ("file:///var/site/Data.fs?blobstorage_dir=/var/site/blobs", "/var/site/Data.fs"),
        ("file:///var/other/..//site/./Data.fs", "/var/site/Data.fs"),
        ("file://var/Data.fs", "var/Data.fs"),
        # What is written goes into memory
        ("file:///var/site/Data.fs?demostorage", None),
        ("file:///var/site/Data.fs?demostorage=1&read_only=1", None),
        ("zeo://localhost:8100", None),
        ("zlibstorage:file:///var/site/Data.fs", None),
        ("", None),
    ],
)
def test_an_address_is_of_a_file_or_of_none(uri, file):
    assert file_of(uri) == (None if file is None else Path(file))


def test_the_socket_of_a_file_is_where_it_was_when_the_process_has_gone_elsewhere(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    assert socket_beside(Path("Data.fs")) == tmp_path / "Data.fs.zasync" / "zeo.sock"


def test_who_listens_and_says_nothing_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(own_file, "ANSWER_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "zeo.sock"))
        server.listen()

        assert not answers(tmp_path / "zeo.sock")
