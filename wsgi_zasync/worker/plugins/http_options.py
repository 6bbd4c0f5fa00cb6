# SPDX-License-Identifier: ZPL-2.1
"""What the operator and the caller may say to ``http.get``, read and checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ...errors import ConfigurationError, InvalidArguments
from ...sealing import Secret
from .addresses import OutgoingRules
from .failures import InvalidHeader

MAX_BYTES = 1_000_000
USER_AGENT = "wsgi_zasync"

_KNOWN_SETTINGS = ("allow", "ca_file", "max_bytes", "ports", "schemes", "user_agent")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+\-.^_`|~]{1,200}")
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
#: Headers that steer the connection or the reading of the response, which is ours to do.
_OURS = frozenset(
    (
        "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    )
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class HTTPSettings:
    """The options of ``[plugin:http.get]``, or of a plugin that fetches by its function."""

    rules: OutgoingRules
    max_bytes: int = MAX_BYTES
    ca_file: str | None = None
    user_agent: str = USER_AGENT

    @classmethod
    def from_options(cls, options: Mapping[str, str]) -> HTTPSettings:
        """Read them from text.

        Raises:
            ConfigurationError: An unknown option, or one that cannot be read.
        """
        unknown = sorted(set(options) - set(_KNOWN_SETTINGS))
        if unknown:
            raise ConfigurationError(
                f"{unknown[0]}: no such option; there are {', '.join(_KNOWN_SETTINGS)}"
            )
        size = options.get("max_bytes", str(MAX_BYTES))
        if not (size.isascii() and size.isdigit() and int(size) > 0):
            raise ConfigurationError(f"max_bytes: {size!r} is no number of bytes")
        agent = options.get("user_agent", USER_AGENT)
        if _UNSENDABLE.search(agent) or not agent.isascii():
            raise ConfigurationError(f"user_agent: {ascii(agent)} must be printable ASCII")
        return cls(
            rules=OutgoingRules.from_settings(options),
            max_bytes=int(size),
            ca_file=options.get("ca_file") or None,
            user_agent=agent,
        )

    def limit(self, asked: int | None) -> int:
        """How many bytes a call that asks for so many gets.

        Raises:
            InvalidArguments: More than is configured, or no number.
        """
        if asked is None:
            return self.max_bytes
        return whole("max_bytes", asked, 1, self.max_bytes)


def check(options: Mapping[str, str]) -> None:
    """Refuse at a worker's start what every call would fail of.

    Raises:
        ConfigurationError: An option that cannot be read, or a file of authorities.
    """
    ca_file = HTTPSettings.from_options(options).ca_file
    if ca_file is not None:
        # Loads OpenSSL.
        from .outgoing import authorities

        authorities(ca_file)


def checked_headers(headers: Any) -> dict[str, str]:
    """The caller's headers, if every one of them can be sent as it is; secrets opened.

    Raises:
        InvalidHeader: A name that is no token or ours to set, or a value that is no text or
            has CR, LF, NUL or another control in it. The value is not in the message.
    """
    if not isinstance(headers, Mapping):
        raise InvalidHeader(f"headers must be a dict of text, not {type(headers).__name__}")
    return {_checked_name(name): _checked_value(name, value) for name, value in headers.items()}


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not _TOKEN.fullmatch(name):
        raise InvalidHeader(f"{ascii(name)[:80]} is no name of a header")
    if name.lower() in _OURS:
        raise InvalidHeader(f"header {name}: is set by the plugin; leave it out")
    return name


def _checked_value(name: str, value: Any) -> str:
    text = value.reveal() if isinstance(value, Secret) else value
    if not isinstance(text, str):
        raise InvalidHeader(f"header {name}: the value must be text")
    if _UNSENDABLE.search(text) or not text.isascii():
        raise InvalidHeader(
            f"header {name}: the value must be one line of printable ASCII, without CR, LF, NUL"
        )
    return text


def flag(name: str, value: Any) -> bool:
    """True or False.

    Raises:
        InvalidArguments: Something else.
    """
    if not isinstance(value, bool):
        raise InvalidArguments(f"{name} must be True or False", path=f"kwargs[{name!r}]")
    return value


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number within bounds.

    Raises:
        InvalidArguments: Something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArguments(
            f"{name} must be a whole number from {low:,} to {high:,}", path=f"kwargs[{name!r}]"
        )
    return value


def seconds(name: str, value: Any, high: float) -> float:
    """Seconds or a timedelta above 0, up to ``high`` seconds.

    Raises:
        InvalidArguments: Something else.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= high:
        raise InvalidArguments(
            f"{name} must be seconds, above 0 and up to {high:g}", path=f"kwargs[{name!r}]"
        )
    return float(value)
