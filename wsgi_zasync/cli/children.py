# SPDX-License-Identifier: ZPL-2.1
"""The demo's other processes: a ZEO server and a worker.

Each is in a session of its own, so that Ctrl-C reaches this process only and they are ended in
the right order: the worker before its database.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import zc.lockfile

from ..clock import SystemClock
from ..configuration.site_secrets import kept_secret
from ..errors import ConfigurationError
from ..own_file import answers

#: What the files of the demo are called in its directory.
SOCKET, STORAGE, SECRET = "zeo.sock", "demo.fs", "secret"

#: What the ZEO server is started with. It says no more than what is wrong: by default it tells of
#: every connection.
ZEO_CONF = "zeo.conf"
ZEO_TEXT = """\
<zeo>
  address {socket}
</zeo>
<filestorage 1>
  path {storage}
</filestorage>
<eventlog>
  level WARNING
  <logfile>
    path STDERR
    format %(asctime)s %(levelname)-7s ZEO server: %(message)s
  </logfile>
</eventlog>
"""

#: Seconds for a process to begin, and to end before it is killed.
BEGIN_SECONDS = 30.0
END_SECONDS = 40.0

#: The longest path of a unix socket, in bytes; less than the limit of every system.
LONGEST_PATH = 100


@contextmanager
def zeo_process(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A ZEO server on a unix socket that only this user can open.

    ZEO has no passwords: who can connect can do anything.

    Raises:
        ConfigurationError: It does not begin, such as when the storage is in use.
    """
    path = directory / SOCKET
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise ConfigurationError(f"{path} is too long for a socket: choose a shorter --data")
    if answers(path):
        raise ConfigurationError(
            f"another ZEO server answers at {path}: end that demo, or choose another --data"
        )
    path.unlink(missing_ok=True)
    _refuse_open_storage(directory / STORAGE)
    kept_secret(directory / SECRET)
    conf = directory / ZEO_CONF
    names = {"socket": path, "storage": directory / STORAGE}
    # ZConfig replaces what follows a dollar.
    escaped = {name: str(value).replace("$", "$$") for name, value in names.items()}
    conf.write_text(ZEO_TEXT.format(**escaped), encoding="utf-8")
    with _process("ZEO server", ["-m", "ZEO.runzeo", "-C", str(conf)]) as process:
        clock = SystemClock()
        until = clock.monotonic() + BEGIN_SECONDS
        while not answers(path):
            if process.poll() is not None or clock.monotonic() > until:
                raise ConfigurationError(
                    f"the ZEO server of {conf} did not begin; what it says above is the reason"
                )
            Event().wait(0.05)
        yield process


def _refuse_open_storage(path: Path) -> None:
    try:
        zc.lockfile.LockFile(f"{path}.lock").close()
    except zc.lockfile.LockError as error:
        raise ConfigurationError(
            f"{path} is open in another process, such as a demo without --processes: end that "
            "one, or choose another --data"
        ) from error


@contextmanager
def worker_process(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker on ``[worker:main]`` of a file."""
    advice = f"; calls wait until there is another one: {this_command()} worker {nearby(file)}"
    with _process("worker", ["-m", "wsgi_zasync", "worker", str(file)], advice) as process:
        yield process


def this_command() -> str:
    """How a shell calls the ``zasync`` that this is."""
    beside = Path(sys.executable).with_name("zasync")
    if not beside.is_file():
        return f"{sys.executable} -m wsgi_zasync"
    found = shutil.which("zasync")
    return "zasync" if found is not None and Path(found) == beside else str(nearby(beside))


def nearby(path: Path) -> Path:
    """The path from the current directory, where it is within that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


@contextmanager
def _process(
    what: str, arguments: list[str], advice: str = ""
) -> Iterator[subprocess.Popen[bytes]]:
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
    Thread(target=_watch, args=(what, process, ending, advice), daemon=True).start()
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


def _watch(what: str, process: subprocess.Popen[bytes], ending: Event, advice: str) -> None:
    """Say when a process ends that should not."""
    code = process.wait()
    if not ending.is_set():
        how = f"was killed by signal {-code}" if code < 0 else f"has ended with code {code}"
        print(f"  {what}: process {process.pid} {how}{advice}", flush=True)
