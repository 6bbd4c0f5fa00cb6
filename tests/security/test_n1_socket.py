# SPDX-License-Identifier: ZPL-2.1
"""N1: the socket by which a site serves its FileStorage is its own user's alone."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ZODB
from ZODB.FileStorage import FileStorage

from wsgi_zasync import ConfigurationError
from wsgi_zasync.own_file import answers, socket_beside
from wsgi_zasync.sharing import share

#: The user whom nothing belongs to.
NOBODY = 65534

CONNECT = f"""
import os, socket, sys
os.setgroups([])
os.setgid({NOBODY})
os.setuid({NOBODY})
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
"""


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that everybody can enter, unlike those of pytest."""
    found = Path(tempfile.mkdtemp())
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


@pytest.fixture
def db(directory: Path) -> Iterator[Any]:
    database = ZODB.DB(FileStorage(str(directory / "Data.fs")))
    yield database
    database.close()


@pytest.fixture
def careless() -> Iterator[None]:
    """A process that makes everything open to everybody."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(directory: Path) -> list[int]:
    path = socket_beside(directory / "Data.fs")
    return [stat.S_IMODE(each.lstat().st_mode) for each in (path.parent, path)]


@pytest.mark.usefixtures("careless")
def test_directory_and_socket_are_closed_to_others_whatever_the_umask(db, directory):
    (shared,) = share(db)
    try:
        assert modes(directory) == [0o700, 0o600]
    finally:
        shared.close()


@pytest.mark.usefixtures("careless")
def test_a_directory_that_was_open_is_closed(db, directory):
    socket_beside(directory / "Data.fs").parent.mkdir(0o777)

    (shared,) = share(db)
    try:
        assert modes(directory) == [0o700, 0o600]
    finally:
        shared.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_connect(db, directory):
    (shared,) = share(db)
    try:
        assert answers(shared.path)
        done = subprocess.run(
            [sys.executable, "-c", CONNECT, str(shared.path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "PermissionError" in done.stderr
    finally:
        shared.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_not_used(db, directory):
    path = socket_beside(directory / "Data.fs")
    path.parent.mkdir(0o700)
    os.chown(path.parent, NOBODY, NOBODY)

    with pytest.raises(ConfigurationError, match="only this user can enter"):
        share(db)

    assert not path.exists()


def test_a_file_in_the_place_of_the_directory_is_not_used(db, directory):
    socket_beside(directory / "Data.fs").parent.write_text("")

    with pytest.raises(ConfigurationError, match="cannot be made"):
        share(db)
