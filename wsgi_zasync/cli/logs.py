# SPDX-License-Identifier: ZPL-2.1
"""Log lines of the commands that run for long: text or JSON, one line a record."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime

from .output import shown

#: Where what plugins say by ``attempt.log`` goes.
PLUGIN_LOGGER = "wsgi_zasync.plugin"

#: What our log lines carry beside their message.
EXTRAS = ("action", "call", "plugin", "owner", "attempt", "seconds")


class TextFormatter(logging.Formatter):
    """Time, level, message; controls escaped, so that a record is one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, and the traceback below it where there is one."""
        message = _message(record)
        if record.name == PLUGIN_LOGGER:
            # A plugin's own words, which do not say what they are about.
            message = f"call {getattr(record, 'call', '?')}: {message}"
        line = f"{_time(record)} {record.levelname:<7} {shown(message)}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            line += "".join(f"\n    {shown(each)}" for each in trace.splitlines())
        return line


class JSONFormatter(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        entry = {
            "time": _time(record),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        for name in EXTRAS:
            value = getattr(record, name, None)
            if value is not None:
                entry[name] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as exc:  # noqa: BLE001 - whatever was given for a % of the text
        # What Python would write instead is of many lines, and shows what was given.
        return f"{record.msg} (cannot be filled in: {type(exc).__name__})"


def _time(record: logging.LogRecord) -> str:
    when = datetime.fromtimestamp(record.created, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_to_stderr(kind: str = "text") -> None:
    """Have the process log to stderr: our lines from INFO on, others' from WARNING on.

    Also what would be written there past the log, in several lines that may steer a terminal:
    what ends a thread or is lost in the reactor, and warnings, which Twisted logs as well.
    """
    from ..worker.running.reactor import log_by_logging

    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(JSONFormatter() if kind == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[out], force=True)
    logging.getLogger("wsgi_zasync").setLevel(logging.INFO)
    threading.excepthook = _log_end_of_thread
    log_by_logging()


def _log_end_of_thread(end: threading.ExceptHookArgs) -> None:
    if end.exc_type is SystemExit or end.exc_value is None:
        return
    name = "?" if end.thread is None else end.thread.name
    error = (end.exc_type, end.exc_value, end.exc_traceback)
    logging.getLogger(__name__).error("thread %s has ended by an error", name, exc_info=error)
