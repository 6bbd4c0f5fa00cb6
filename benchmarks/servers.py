# SPDX-License-Identifier: ZPL-2.1
"""Real ZEO servers, on a unix socket in a directory that is thrown away."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ZODB
from ZEO.ClientStorage import ClientStorage


@dataclass(frozen=True)
class Server:
    """A running ZEO server."""

    directory: Path

    @property
    def socket(self) -> str:
        """Where it listens."""
        return str(self.directory / "zeo.sock")

    @property
    def file(self) -> Path:
        """Its FileStorage."""
        return self.directory / "Data.fs"

    @property
    def uri(self) -> str:
        """The same for configuration files."""
        return f"zeo://{self.socket}?wait_timeout=30"

    def open(self) -> Any:
        """A database, as a client of it."""
        return ZODB.DB(ClientStorage(self.socket, wait_timeout=30), cache_size=20_000)


@contextlib.contextmanager
def zeo() -> Iterator[Server]:
    """A ZEO server in a process of its own, with an empty FileStorage."""
    with tempfile.TemporaryDirectory(prefix="zasync-bench-") as name:
        server = Server(Path(name))
        command = [sys.executable, "-m", "ZEO.runzeo", "-a", server.socket, "-f", str(server.file)]
        environ = {**os.environ, "PYTHONWARNINGS": "ignore"}
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environ
        )
        try:
            while not os.path.exists(server.socket):
                if process.poll() is not None:
                    raise RuntimeError(f"the ZEO server ended with {process.returncode}")
                time.sleep(0.02)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                # What its signal handler raises may be lost, if it comes at an odd moment.
                process.kill()
                process.wait()
