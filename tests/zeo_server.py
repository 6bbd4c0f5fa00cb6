# SPDX-License-Identifier: ZPL-2.1
"""A ZEO server in a process of its own, which can be killed and comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ZEO.ClientStorage import ClientStorage
from ZODB import DB

CONFIGURATION = """
<zeo>
  address {socket}
</zeo>
<filestorage 1>
  path {directory}/Data.fs
  blob-dir {directory}/blobs
</filestorage>
"""


class Server:
    """A server on a unix socket in a directory.

    Not a thread of the test, as ``ZEO.server(threaded=True)`` has it: that one may end before it
    has closed its connections, and then its clients are never told that it has gone.
    """

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "zeo.sock")
        self._configuration = directory / "zeo.conf"
        text = CONFIGURATION.format(socket=self.socket, directory=directory)
        self._configuration.write_text(text)
        self.start()

    @property
    def uri(self) -> str:
        """The same for configuration files."""
        return f"zeo://{self.socket}?wait_timeout=30"

    def start(self) -> None:
        # One that was killed leaves it behind.
        Path(self.socket).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ZEO.runzeo", "-C", str(self._configuration)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kill()

    def open_storage(self, **options: Any) -> ClientStorage:
        """A client of it."""
        return ClientStorage(self.socket, wait_timeout=30, **options)

    def open(self, **options: Any) -> DB:
        """A database, as a client of it."""
        return DB(self.open_storage(**options))
