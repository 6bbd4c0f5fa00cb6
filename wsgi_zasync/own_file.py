# SPDX-License-Identifier: ZPL-2.1
"""The file of a FileStorage, which one process has open, and the socket beside it.

A site that runs its own worker serves its file there (``sharing``), so that commands can work
beside it (``beside``).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

#: What the directory of the socket is called: the storage's file name and this.
DIRECTORY_SUFFIX = ".zasync"
SOCKET_NAME = "zeo.sock"

#: How long to wait for a server's greeting.
ANSWER_SECONDS = 5.0

#: The longest address of a unix socket on Linux, in bytes.
LONGEST_ADDRESS = 107


def file_of(uri: str) -> Path | None:
    """The FileStorage's file, if the address is of one that is written to itself."""
    prefix, colon, rest = uri.partition("file://")
    if prefix or not colon:
        return None
    path, _, query = rest.partition("?")
    return None if "demostorage" in dict(parse_qsl(query, True)) else Path(os.path.normpath(path))


def file_of_storage(storage: Any) -> Path | None:
    """The file of an open FileStorage, also of one that is wrapped for its blobs."""
    storage = vars(storage).get("_BlobStorage__storage", storage)
    if "FileStorage" not in {kind.__name__ for kind in type(storage).__mro__}:
        return None
    return Path(storage.getName())


def socket_beside(file: Path) -> Path:
    """Where the process that has the file open listens."""
    return file.absolute().with_name(file.name + DIRECTORY_SUFFIX) / SOCKET_NAME


def address_of(path: Path) -> str:
    """What to bind or connect to for a socket, also where its path is too long for one.

    The directory that such a path goes by stays open as long as the process lives.
    """
    if len(os.fsencode(path)) <= LONGEST_ADDRESS:
        return str(path)
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{descriptor}/{path.name}"


def answers(path: Path) -> bool:
    """Whether a ZEO server answers at a socket."""
    if not path.exists():
        return False
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(ANSWER_SECONDS)
        try:
            client.connect(address_of(path))
            # Its greeting. A server whose greeting nobody reads takes that for an error.
            return bool(client.recv(64))
        except OSError:
            return False
