# SPDX-License-Identifier: ZPL-2.1
"""``zasync demo``: the demo application, served until Ctrl-C.

One process with an embedded worker on a FileStorage; or, with ``--processes``, a ZEO server and
a worker as processes of their own beside this one, which is then the web's.
"""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from ..errors import ConfigurationError
from ..middleware import CallManagerMiddleware
from .children import nearby, this_command, worker_process, zeo_process
from .logs import log_to_stderr
from .places import INSTALLED, REPOSITORY, demo_files
from .signals import on_stop

Application = Callable[..., Iterable[bytes]]

#: What means something else in the name of a PasteDeploy file, in a value, or in an address.
UNSPEAKABLE = "#%?\\"


def demo(port: int | None, data: str | None, processes: bool) -> int:
    """Serve the demo.

    Args:
        port: Of the web server; None: as the file says; 0: any that is free.
        data: The directory for the database; None: as the file says.
        processes: Whether ZEO and the worker are processes of their own.

    Raises:
        ConfigurationError: The demo is not there, its port is in use, or its data is.
    """
    source = demo_files()
    if source is None:
        raise ConfigurationError(
            f"the demo is neither in {REPOSITORY} nor in {INSTALLED}: clone the repository, and "
            "run make demo there"
        )
    original = source / ("demo_app/three.ini" if processes else "paste.ini")
    beside = Path.cwd() if source == INSTALLED else source
    directory = Path(data).absolute() if data is not None else beside / "var"
    _refuse_unspeakable(directory)
    # It is imported by its own name, wherever it is.
    sys.path.insert(0, str(source))
    log_to_stderr()
    web = _listening(original, port)
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigurationError(f"--data {directory}: {error.strerror}") from error
    file = _own_copy(original, directory, web.port)
    children: list[Popen[bytes]] = []

    def kill_children() -> None:
        for child in children:
            child.kill()

    # The signals outermost: a second one counts while all the rest is being ended.
    with on_stop(web.stop, kill_children), ExitStack() as stack:
        stack.callback(web.close)
        if processes:
            children.append(stack.enter_context(zeo_process(directory)))
            children.append(stack.enter_context(worker_process(file)))
        _serve(web, file, directory, stack, processes)
    print("The demo has ended.", flush=True)
    return 0


def _serve(web: Web, file: Path, directory: Path, stack: ExitStack, processes: bool) -> None:
    from paste.deploy import loadapp

    web.application = loadapp(f"config:{file}")
    middleware = _middleware(web.application)
    stack.callback(middleware.stop)
    # Now and not with the first request: calls of an earlier run go on, and a database that
    # another process has is found out before anybody is told an address.
    middleware.start()
    print(f"\n  The shelf of links:  http://{web.host}:{web.port}/\n")
    print(f"  Its data is in {nearby(directory)}. Ctrl-C ends it.")
    if processes:
        print("  In another terminal, from this directory, what its worker does:")
        print(f"    {this_command()} status --watch {nearby(file)}")
    print(flush=True)
    web.run()


@dataclass
class Web:
    """A server that listens already, while its application is yet to be loaded."""

    server: Any
    host: str
    port: int
    application: Application | None = None
    #: Whether it was asked to stop before it ran.
    _stopped: bool = False
    _running: bool = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a request."""
        assert self.application is not None
        return self.application(environ, start_response)

    def run(self) -> None:
        """Serve until it is asked to stop."""
        if not self._stopped:
            self._running = True
            # Returns at SystemExit, when the requests under way have been answered.
            self.server.run()

    def stop(self) -> None:
        """Stop serving; called in a signal's handler, in the thread that serves."""
        self._stopped = True
        print("Ending: what runs may end first. Ctrl-C again ends it at once.", flush=True)
        raise SystemExit(0 if self._running else 1)

    def close(self) -> None:
        """Give the port back."""
        self.server.close()


def _listening(file: Path, port: int | None) -> Web:
    """Take the port, before anything else is done that would have to be undone."""
    from paste.deploy.loadwsgi import SERVER, loadcontext
    from waitress.server import create_server

    options = dict(loadcontext(SERVER, f"config:{file}").local_conf)
    host, wanted = options["host"], port if port is not None else int(options["port"])
    web = Web(None, host, wanted)
    try:
        web.server = create_server(web, **(options | {"port": wanted}))
    except OSError as error:
        raise _port_refused(host, wanted, error) from error
    web.port = int(web.server.effective_port)
    return web


def _refuse_unspeakable(directory: Path) -> None:
    """Refuse a place that the copy of the file, or the database's address in it, cannot name."""
    name = str(directory)
    if set(UNSPEAKABLE) & set(name) or not name.isprintable():
        raise ConfigurationError(
            f"--data {directory}: a configuration cannot name it: choose another, of letters that "
            f"can be printed and without {' '.join(UNSPEAKABLE)}"
        )


def _port_refused(host: str, port: int, error: OSError) -> ConfigurationError:
    if error.errno == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} of {host} is in use: end what uses it, or choose another one: "
            f"make demo PORT={port + 1 if port < 65535 else 0}, or zasync demo --port 0 for any "
            "that is free"
        )
    return ConfigurationError(f"port {port} of {host} cannot be used: {error.strerror}")


def _own_copy(original: Path, directory: Path, port: int) -> Path:
    """The configuration as it is served: the original if nothing differs, else a copy of it.

    Web side and worker have to read the same port and place, so that they are in one file.
    """
    text = original.read_text(encoding="utf-8")
    changed = text
    for name, value in {"http_port": port, "data": directory}.items():
        changed = re.sub(rf"(?m)^{name} = .*$", f"{name} = {value}", changed)
    same_place = directory == REPOSITORY / "var"
    if same_place and re.search(rf"(?m)^http_port = {port}$", text):
        return original
    copy = directory / original.name
    copy.write_text(changed, encoding="utf-8")
    return copy


def _middleware(application: Any) -> CallManagerMiddleware:
    """Ours, within the filters of the demo."""
    found = application
    while not isinstance(found, CallManagerMiddleware):
        found = found.app
    return found
