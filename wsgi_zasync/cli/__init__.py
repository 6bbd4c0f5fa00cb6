# SPDX-License-Identifier: ZPL-2.1
"""The command ``zasync``: its arguments, its exit codes, and how its errors are told.

Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage or configuration. An error of
ours is one line on stderr.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import Any, TypeAlias

from transaction.interfaces import TransientError
from ZODB.POSException import StorageError

from ..errors import ConfigurationError, ZasyncError
from ..states import CallState
from .output import open_standard_files, tell, text_of, write_no_more
from .places import find_modules

DONE, FAILED, MISUSED = 0, 1, 2


#: What only shows something: who closes our output has seen enough of it.
LOOKING = ("list", "show", "status", "plugins")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    open_standard_files()
    try:
        code = _done(arguments)
    except SystemExit:
        # Of argparse, which has said what there is to say; or of a worker that was to stop.
        if _written() != DONE:
            return FAILED
        raise
    written = _written()
    return code or written


def _done(arguments: Sequence[str] | None) -> int:
    given = _parser().parse_args(arguments)
    find_modules()
    # A ZEO client that is closed while it fetches ahead says so with a traceback. Where nothing
    # is set up to take logs, as zasync worker does, Python would write that among our output.
    logging.getLogger("ZEO").addHandler(logging.NullHandler())
    try:
        return _run(given)
    except ConfigurationError as error:
        tell(error)
        return MISUSED
    except ZasyncError as error:
        tell(error)
    except TransientError as error:
        tell(f"the database is busy or cannot be reached: {text_of(error)}")
    except StorageError as error:
        tell(f"the storage does not let us: {text_of(error)}")
    except KeyboardInterrupt:
        return FAILED
    except OSError as error:
        # Of our output, or of the disk that the storage is on.
        with suppress(OSError):
            sys.stdout.flush()
        write_no_more(sys.stdout)
        if isinstance(error, BrokenPipeError) and given.command in LOOKING:
            return DONE
        tell(error)
    return FAILED


def _written() -> int:
    """Write what is left to be written; the exit code of that."""
    code = DONE
    try:
        sys.stdout.flush()
    except OSError as error:
        write_no_more(sys.stdout)
        # What was asked for is done, and who read our output wants no more of it.
        if not isinstance(error, BrokenPipeError):
            tell(error)
            code = FAILED
    try:
        sys.stderr.flush()
    except OSError:
        # Nobody reads this any more: tee, for one, ends by the same Ctrl-C.
        write_no_more(sys.stderr)
    return code


def _run(given: argparse.Namespace) -> int:
    """The command's own module, imported now: a list of calls needs no server and no reactor."""
    command: str = given.command
    if command == "demo":
        from .demo import demo

        return demo(given.port, given.data, given.processes)
    if command == "worker":
        from .working import work

        return work(given.file, given.zconfig, given.section, given.name)
    if command == "check":
        from .checking import check

        return check(given.file)
    if command in LOOKING:
        from . import looking

        look = {
            "list": looking.list_calls,
            "show": looking.show_calls,
            "status": looking.status,
            "plugins": looking.plugins,
        }
        return look[command](given)
    from . import changing

    if command == "prune":
        return changing.prune(given.file, given.dry_run)
    return changing.change(given.file, command, given.id)


class _Parser(argparse.ArgumentParser):
    def _print_message(self, message: str, file: Any = None) -> None:
        # The first releases of Python 3.11 let it through where help cannot be written.
        with suppress(OSError):
            super()._print_message(message, file)


def _parser() -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = _Parser(
        prog="zasync",
        description="Asynchronous calls of WSGI applications: run them, look at them, end them.",
        epilog="Exit codes: 0 done, 1 what was asked for failed, 2 wrong usage or configuration.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="say which version this is")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_running(commands)
    _add_looking(commands)
    _add_changing(commands)
    return parser


class _Version(argparse.Action):
    """Looked up when it is asked for: no other command needs what pip has noted."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print("wsgi-zasync", version("wsgi-zasync"))
        parser.exit()


_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _command(commands: _Commands, name: str, text: str) -> argparse.ArgumentParser:
    found: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    return found


def _with_file(command: argparse.ArgumentParser) -> argparse.ArgumentParser:
    command.add_argument("file", metavar="FILE", help="the site's PasteDeploy file")
    return command


def _add_running(commands: _Commands) -> None:
    demo = _command(commands, "demo", "serve the demo application with a worker")
    demo.add_argument("--port", type=_port, help="8080 by default; 0 for any free one")
    demo.add_argument("--data", metavar="DIR", help="where its data is kept; var by default")
    demo.add_argument(
        "--processes", action="store_true", help="ZEO, web and worker as three processes"
    )
    worker = _command(commands, "worker", "run the calls of a site")
    source = worker.add_mutually_exclusive_group(required=True)
    source.add_argument("file", metavar="FILE", nargs="?", help="a PasteDeploy file")
    source.add_argument("-C", dest="zconfig", metavar="CONF", help="a file as zope.conf is")
    worker.add_argument("-n", "--name", help="of this worker; by default one that is unique")
    worker.add_argument("--section", help="X of [worker:X] of FILE; main by default")


def _add_looking(commands: _Commands) -> None:
    listing = _with_file(_command(commands, "list", "list the calls of all owners"))
    listing.add_argument("--state", choices=[str(state) for state in CallState])
    listing.add_argument("--plugin", metavar="NAME")
    listing.add_argument("--owner", metavar="ID", help="an id, or source:id")
    listing.add_argument("--limit", type=_count, default=50, metavar="N", help="50 by default")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = _with_file(_command(commands, "show", "show all there is to know of calls"))
    show.add_argument("id", metavar="ID", nargs="+")
    show.add_argument("--data", action="store_true", help="arguments and result too")
    show.add_argument("--traceback", action="store_true", help="of a failure")
    show.add_argument("--json", action="store_true", help="one JSON object a line")
    status = _with_file(_command(commands, "status", "show workers, what runs, and counts"))
    status.add_argument("--watch", action="store_true", help="again every two seconds")
    _with_file(_command(commands, "plugins", "list the plugins of a site and of its workers"))
    _with_file(_command(commands, "check", "check a configuration, and connect"))


def _add_changing(commands: _Commands) -> None:
    for name, text in (
        ("cancel", "cancel calls: at once those that wait, others as soon as they stop"),
        ("retry", "evaluate failed callback expressions of ended calls again"),
        ("forget", "erase ended calls"),
    ):
        command = _with_file(_command(commands, name, text))
        command.add_argument("id", metavar="ID", nargs="+")
    prune = _with_file(_command(commands, "prune", "erase ended calls whose time is over"))
    prune.add_argument("--dry-run", action="store_true", help="only count them")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write 0 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number from 1 to 1000000")
    return int(text)


__all__ = ["main"]
