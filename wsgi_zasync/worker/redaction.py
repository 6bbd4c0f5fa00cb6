# SPDX-License-Identifier: ZPL-2.1
"""What of an exception may be stored and shown: its text without secrets and controls.

An owner reads ``Failure.message``; operators read ``traceback_text``, which has no values of
local variables. Both leave here only.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from datetime import datetime

from ..call import Failure
from ..lines import escape_controls

#: Characters of a message and of a traceback that are kept.
MAX_MESSAGE = 2_000
MAX_TRACEBACK = 20_000

#: Of a text that others write so much is searched for what looks like a secret.
_MAX_SEARCHED = 4 * MAX_MESSAGE

#: Secrets shorter than this are not searched for: they would be found everywhere.
_SHORTEST_SECRET = 4

_HIDDEN = "***"
# user:password@ in an address, up to the last @ before the path begins
_USERINFO = re.compile(r"(?<=://)[^\s/?#]+@")
# password=x, "secret": "x", api-key x and their like, as in DSNs, query strings and headers.
# It begins with the word itself: to look for what may stand before it takes quadratic time.
_NAMED = re.compile(
    r"(?i)(?P<name>(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|authorization"
    r"|credential)s?[\"']?\s*(?:=|:)\s*)(?P<value>(?:basic|bearer)\s+\S+|\"[^\"]*\"|'[^']*'"
    r"|[^\s,;&)}\]]+)"
)


def failure_from(
    error: BaseException,
    *,
    attempt: int,
    when: datetime,
    secrets: Iterable[str | bytes] = (),
    type_name: str | None = None,
) -> Failure:
    """The failure that an exception is stored as.

    Args:
        error: The exception, with its traceback.
        attempt: The number of the attempt that it ended.
        when: The time of it.
        secrets: Values that must not appear, such as those sealed in the call's arguments.
        type_name: What to call it, if not by the exception's class.
    """
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    hidden = tuple(secrets)
    return Failure(
        type=type_name or type(error).__name__,
        message=shown(text_of(error), hidden),
        traceback_text=_redacted("".join(_begin(line, hidden) for line in lines))[-MAX_TRACEBACK:],
        attempt=attempt,
        when=when,
    )


def text_of(error: BaseException) -> str:
    """What an exception says; its own ``__str__`` may be broken."""
    try:
        return str(error)
    except Exception as exc:  # noqa: BLE001 - any class may raise anything here
        return f"(its text cannot be read: {type(exc).__name__})"


def shown(text: str, secrets: Iterable[str | bytes] = ()) -> str:
    """A text as an owner may read it: redacted, controls escaped, of bounded length."""
    escaped = escape_controls(_redacted(_begin(text, secrets)))
    return escaped if len(escaped) <= MAX_MESSAGE else escaped[: MAX_MESSAGE - 1] + "…"


def _begin(text: str, secrets: Iterable[str | bytes]) -> str:
    """The begin of a text, without the secrets; they go first, since a cut could halve one."""
    for secret in secrets:
        value = secret.decode("utf-8", "replace") if isinstance(secret, bytes) else secret
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, _HIDDEN).replace(repr(value)[1:-1], _HIDDEN)
    return text[:_MAX_SEARCHED]


def _redacted(text: str) -> str:
    text = _USERINFO.sub(f"{_HIDDEN}@", text)
    return _NAMED.sub(rf"\g<name>{_HIDDEN}", text)
