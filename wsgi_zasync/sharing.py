# SPDX-License-Identifier: ZPL-2.1
"""Serves the FileStorage of this process to commands on the same machine, by ZEO.

A FileStorage belongs to the process that has it open. A site with an embedded worker serves its
own on a unix socket beside the file, so that an operator can look at calls, end them, or run one
more worker. ZEO has no passwords, and who can connect can do anything: the directory of the
socket is this user's alone.

Threads: the server has one of its own; commits of this process are told to it in whatever thread
makes them, and its clients' commits to this process's connections in the server's.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ZEO.asyncio.server import Result
from ZEO.StorageServer import StorageServer, ZEOStorage

from .errors import ConfigurationError
from .own_file import address_of, file_of_storage, socket_beside
from .store.wakeup import signal_for

logger = logging.getLogger(__name__)

#: What ZEO clients call the one storage of a server when they say nothing.
STORAGE = "1"


def share(db: Any) -> list[SharedFile]:
    """Serve each FileStorage among the databases of ``db``.

    Raises:
        ConfigurationError: The socket's directory cannot be made this user's alone.
    """
    shared: list[SharedFile] = []
    try:
        for each in db.databases.values():
            file = file_of_storage(each.storage)
            if file is not None and not (each.storage.isReadOnly() or _is_shared(each)):
                shared.append(SharedFile(each, socket_beside(file)))
    except BaseException:
        for begun in shared:
            begun.close()
        raise
    return shared


def _is_shared(db: Any) -> bool:
    """Whether this process serves it already, for another site on the same database."""
    return "_invalidate_finish" in vars(db._mvcc_storage)


class _Client(ZEOStorage):  # type: ignore[misc]
    """One client, which is told the transaction that its commit really was.

    ZEO asks the storage for the last one then. Where others commit as well that may be one of
    theirs already, and the client would take what it wrote for what they wrote: an update lost.
    """

    _tid: bytes = b""

    def _invalidate(self, tid: bytes) -> None:
        self._tid = tid
        super()._invalidate(tid)

    def tpc_finish(self, id: Any) -> Any:
        """Commit; the answer is the id of the transaction."""
        answer = super().tpc_finish(id)
        return None if answer is None else Result(self._tid, self._clear_transaction)


class _Server(StorageServer):  # type: ignore[misc]
    """A ZEO server on a storage that this process has connections of its own to."""

    def __init__(self, address: str, db: Any) -> None:
        # Both know nothing of each other, and each has to be told of the other's commits.
        self._connections = db._mvcc_storage
        self._signal = signal_for(db)
        # What ZEO calls for each client that connects.
        self.create_client_handler = lambda: _Client(self, False)
        super().__init__(address, {STORAGE: db.storage})

    def invalidate(self, client: Any, name: str, tid: bytes, oids: Iterable[bytes]) -> None:
        """Tell of a commit: the other clients and, of a client's, this process."""
        super().invalidate(client, name, tid, oids)
        if client is not None:
            self._connections.invalidate(tid, oids)
            self._signal.announce(oids, tid)

    def close(self, join_timeout: float = 1) -> None:
        """Stop serving; the storage is left open."""
        self.storages: dict[str, Any] = {}
        super().close(join_timeout)


class SharedFile:
    """One FileStorage that is served, until it is closed."""

    def __init__(self, db: Any, path: Path) -> None:
        """Begin to serve the database's storage on a socket.

        Raises:
            ConfigurationError: Its directory cannot be made this user's alone.
        """
        _make_private(path.parent)
        # We have the storage's lock: what may be there is of a process that was killed.
        path.unlink(missing_ok=True)
        self.path = path
        self._connections = db._mvcc_storage
        try:
            self._server = _Server(address_of(path), db)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be listened on: {error}") from error
        path.chmod(0o600)
        self._server.start_thread()
        self._tell_of_commits_here()

    def _tell_of_commits_here(self) -> None:
        connections, server = self._connections, self._server
        inner = connections._invalidate_finish

        def invalidate_and_tell(tid: bytes, oids: Iterable[bytes], committing: Any) -> None:
            inner(tid, oids, committing)
            try:
                server.invalidate(None, STORAGE, tid, list(oids))
            except Exception:
                # This is the middle of a commit, which must not fail for a client's sake.
                logger.exception("commands beside this site were not told of a commit")

        connections._invalidate_finish = invalidate_and_tell

    def close(self) -> None:
        """Stop serving. Clients are disconnected; the storage stays open."""
        vars(self._connections).pop("_invalidate_finish", None)
        self._server.close()
        self.path.unlink(missing_ok=True)


def _make_private(directory: Path) -> None:
    """Make a directory that only this user can enter.

    Raises:
        ConfigurationError: It is somebody else's, or cannot be closed to others.
    """
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
            directory.chmod(0o700)
            found = directory.lstat()
    except OSError as error:
        raise ConfigurationError(
            f"the directory {directory}, for commands beside this site, cannot be made: "
            f"{error.strerror}"
        ) from error
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"{directory} must be a directory that only this user can enter, since ZEO has no "
            "passwords: remove what is there"
        )
