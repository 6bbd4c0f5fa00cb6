# SPDX-License-Identifier: ZPL-2.1
"""The demo's other processes: a ZEO server and a worker.

Each is in a session of its own, so that Ctrl-C reaches this process only and they are ended in
the right order: the worker before its database.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from ..clock import SystemClock
from ..errors import ConfigurationError
from ..site_secrets import kept_secret

#: What the files of the demo are called in its directory.
SOCKET, STORAGE, SECRET = "zeo.sock", "demo.fs", "secret"

#: Seconds for a process to begin, and to end before it is killed.
BEGIN_SECONDS = 30.0
END_SECONDS = 40.0

#: The longest path of a unix socket, less than the system's own limit.
LONGEST_PATH = 100


@contextmanager
def zeo_process(directory: Path) -> Iterator[None]:
    """A ZEO server on a unix socket that only this user can open.

    ZEO has no passwords: who can connect can do anything.

    Raises:
        ConfigurationError: It does not begin, such as when the storage is in use.
    """
    path = directory / SOCKET
    if len(str(path)) > LONGEST_PATH:
        raise ConfigurationError(f"{path} is too long for a socket: choose a shorter --data")
    if _answers(path):
        raise ConfigurationError(
            f"another ZEO server answers at {path}: end that demo, or choose another --data"
        )
    path.unlink(missing_ok=True)
    kept_secret(directory / SECRET)
    command = ["-m", "ZEO.runzeo", "-a", str(path), "-f", str(directory / STORAGE)]
    with _process("ZEO server", command) as process:
        clock = SystemClock()
        until = clock.monotonic() + BEGIN_SECONDS
        while not _answers(path):
            if process.poll() is not None or clock.monotonic() > until:
                raise ConfigurationError(
                    f"the ZEO server did not begin: {directory / STORAGE} may be open in another "
                    "process, such as a demo without --processes; end that one"
                )
            Event().wait(0.05)
        yield


@contextmanager
def worker_process(file: Path) -> Iterator[None]:
    """A worker on ``[worker:main]`` of a file."""
    with _process("worker", ["-m", "wsgi_zasync", "worker", str(file)]):
        yield


@contextmanager
def _process(what: str, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, *arguments],
        start_new_session=True,
        # Whatever it makes is this user's alone.
        umask=0o077,
        stdin=subprocess.DEVNULL,
        # It finds the same modules as this process, the demo's among them.
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    print(f"  {what}: process {process.pid}", flush=True)
    ending = Event()
    Thread(target=_watch, args=(what, process, ending), daemon=True).start()
    try:
        yield process
    finally:
        ending.set()
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _watch(what: str, process: subprocess.Popen[bytes], ending: Event) -> None:
    """Say when a process ends that should not."""
    code = process.wait()
    if not ending.is_set():
        print(f"  {what}: process {process.pid} has ended with code {code}", flush=True)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True
