# SPDX-License-Identifier: ZPL-2.1
"""Log lines of the commands that run for long: text or JSON, one line a record."""

from __future__ import annotations

import json
import logging
import sys
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
        message = record.getMessage()
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
            "message": record.getMessage(),
        }
        for name in EXTRAS:
            value = getattr(record, name, None)
            if value is not None:
                entry[name] = value
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


def _time(record: logging.LogRecord) -> str:
    when = datetime.fromtimestamp(record.created, UTC)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def log_to_stderr(kind: str = "text") -> None:
    """Have the process log to stderr: our lines from INFO on, others' from WARNING on."""
    out = logging.StreamHandler(sys.stderr)
    out.setFormatter(JSONFormatter() if kind == "json" else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[out], force=True)
    logging.getLogger("wsgi_zasync").setLevel(logging.INFO)
