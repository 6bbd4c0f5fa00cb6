# SPDX-License-Identifier: ZPL-2.1
"""What Twisted's errors mean to the owner of a call."""

from __future__ import annotations

from OpenSSL.SSL import Error as SSLError
from service_identity import VerificationError
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    ConnectionRefusedError,
    TCPTimedOutError,
)
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
)

from ...errors import ConfigurationError
from .failures import (
    ConnectionFailed,
    ConnectionRefused,
    OutgoingError,
    ProtocolFailed,
    TLSFailed,
)
from .urls import Target

#: Those of Twisted that wrap others, in ``reasons``.
_WRAPPERS = (RequestGenerationFailed, RequestTransmissionFailed, ResponseFailed)

#: What may come out of connecting and asking; everything else is an error of ours.
NETWORK_ERRORS = (
    *_WRAPPERS,
    ConnectError,
    ConnectingCancelledError,
    ConnectionClosed,
    SSLError,
    VerificationError,
)


def explained(error: BaseException, target: Target) -> BaseException:
    """What an error of Twisted means to the owner of a call."""
    reasons = _reasons(error)

    def is_any(*kinds: type[BaseException]) -> bool:
        return any(isinstance(reason, kinds) for reason in reasons)

    if is_any(CancelledError, ConnectingCancelledError):
        return CancelledError()
    for reason in reasons:
        if isinstance(reason, (OutgoingError, ConfigurationError)):
            return reason
    if is_any(SSLError, VerificationError):
        return TLSFailed(f"{target.shown}: {_tls_reason(reasons)}; nothing was sent")
    if is_any(ConnectionRefusedError):
        return ConnectionRefused(
            f"{target.shown}: the server refuses connections on port {target.port}; check the "
            "port, or try later"
        )
    if is_any(TCPTimedOutError):
        return ConnectionFailed(f"{target.shown}: the server does not answer; try later")
    if is_any(ConnectError):
        return ConnectionFailed(f"{target.shown}: no connection to the server; try later")
    return ProtocolFailed(
        f"{target.shown}: the server closed the connection before a complete HTTP response, or "
        "sent something else; check the URL, or try later"
    )


def _reasons(error: BaseException) -> list[BaseException]:
    """An error and all that it wraps."""
    found = [error]
    for wrapped in getattr(error, "reasons", ()) if isinstance(error, _WRAPPERS) else ():
        found.extend(_reasons(wrapped.value))
    return found


def _tls_reason(reasons: list[BaseException]) -> str:
    if any(isinstance(reason, VerificationError) for reason in reasons):
        return "the server's certificate is for another host"
    if any("certificate" in str(reason) for reason in reasons if isinstance(reason, SSLError)):
        return "the server's certificate is not trusted (check its issuer and dates, or ca_file)"
    return "no TLS connection came about"
