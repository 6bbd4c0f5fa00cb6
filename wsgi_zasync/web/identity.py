# SPDX-License-Identifier: ZPL-2.1
"""Who makes a request, as far as the WSGI environ tells.

Read-only and without state: any thread may ask. A header of the client (``HTTP_*``) is never an
identity. What is odd is nobody: text that cannot be told apart from somebody else's, or that is
one of the usual spellings of "not logged in", would make strangers share one owner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ConfigurationError, InvalidArguments
from ..ports import Identity
from ..security import ANONYMOUS_SPELLINGS, SESSION_SOURCE, Principal


@dataclass(frozen=True, slots=True)
class TrustedHeader:
    """A header in which proxies that are known name the user."""

    #: Its key in the environ.
    key: str
    #: The addresses of the proxies.
    peers: frozenset[str]

    @classmethod
    def of(cls, name: str | None, peers: Iterable[str]) -> TrustedHeader | None:
        """What is configured, or None if it is not."""
        if name is None:
            return None
        if not (known := frozenset(peers)):
            raise ConfigurationError(
                "identity_header is believed from nobody: list the proxies in trusted_proxies"
            )
        return cls("HTTP_" + name.upper().replace("-", "_"), known)

    def is_from_peer(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request comes from one of the proxies."""
        return environ.get("REMOTE_ADDR") in self.peers


def identify(
    environ: Mapping[str, Any],
    identity: Identity | None = None,
    header: TrustedHeader | None = None,
) -> Principal | None:
    """The principal of a request, or None for nobody.

    A configured ``identity`` is final: if it says nobody, then nobody it is. Without one, the
    identity that repoze.who left in the environ is asked, then the header of a trusted proxy
    where one is configured, then ``REMOTE_USER``.

    Raises:
        ConfigurationError: ``identity`` returned something that names nobody by its type, or a
            principal of the source that is kept for anonymous sessions.
        Exception: Whatever ``identity`` raises; it is the request's failure, not anonymity.
    """
    if identity is not None:
        return _answered(identity(environ))
    who = environ.get("repoze.who.identity")
    if isinstance(who, dict):
        # The authentication has spoken; REMOTE_USER may be older than that.
        return _named(_text(who.get("repoze.who.userid")))
    if header is not None and header.is_from_peer(environ):
        return _named(_decoded(environ.get(header.key)))
    return _named(_decoded(environ.get("REMOTE_USER")))


def _answered(answer: Any) -> Principal | None:
    if answer is None or type(answer) is str:
        return _named(answer)
    if not isinstance(answer, Principal):
        raise ConfigurationError(
            "identity must return a Principal, a str or None, not "
            f"{type(answer).__module__}.{type(answer).__qualname__}"
        )
    if answer.source == SESSION_SOURCE:
        raise ConfigurationError(
            f"identity returned a principal of source {SESSION_SOURCE!r}, which is kept for "
            "visitors who are not logged in; use another source"
        )
    return None if answer.id in ANONYMOUS_SPELLINGS else answer


def _named(name: str | None) -> Principal | None:
    if name is None or name in ANONYMOUS_SPELLINGS:
        return None
    try:
        return Principal(name)
    except InvalidArguments:
        # Controls, blanks around it, too long: nothing that a user is called.
        return None


def _decoded(value: Any) -> str | None:
    """The text of a WSGI string, which carries bytes as latin-1; None for anything else.

    The only place that decodes. Bytes that are not UTF-8 name nobody: read in any other way,
    two users could come out as one.
    """
    if type(value) is not str:
        return None
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return None


def _text(value: Any) -> str | None:
    """A user id that another component has decoded already."""
    if type(value) is bytes:
        try:
            return value.decode("utf-8")
        except UnicodeError:
            return None
    return value if type(value) is str else None
