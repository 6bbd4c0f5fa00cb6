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
    """A server on a unix socket in a directory."""

    def __init__(self, directory: Path) -> None:
        self.socket = str(directory / "zeo.sock")
        self._configuration = directory / "zeo.conf"
        text = CONFIGURATION.format(socket=self.socket, directory=directory)
        self._configuration.write_text(text)
        self.start()

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

    def open_storage(self, **options: Any) -> ClientStorage:
        """A client of it."""
        return ClientStorage(self.socket, wait_timeout=30, **options)

    def open(self, **options: Any) -> DB:
        """A database, as a client of it."""
        return DB(self.open_storage(**options))
