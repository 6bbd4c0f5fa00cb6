# SPDX-License-Identifier: ZPL-2.1
"""What can go wrong on the way to another server: one class for each thing.

::

    OutgoingError
    ├── InvalidURL             not a URL that can be asked for
    ├── InvalidHeader          a header that cannot be sent
    ├── SchemeRefused          neither http nor https
    ├── AddressRefused         loopback, private, metadata …; always the same text
    │   └── PortRefused        a port that the configuration does not open; the same text
    ├── NameNotFound
    ├── ConnectionFailed       no route, reset while connecting
    │   └── ConnectionRefused
    ├── TLSFailed              certificate not trusted, wrong name, no common protocol
    ├── TimedOut
    ├── TooLarge
    ├── TooManyRedirects
    │   └── RedirectLoop
    └── ProtocolFailed         not HTTP, ended early, broken compression

Texts name the URL without user, password and query, and say what to do. A status such as
404 or 500 is an answer and none of these.
"""

from __future__ import annotations

from ...errors import ZasyncError

#: The same for every address, so that it tells nothing about the network behind the worker.
ADDRESS_REFUSED = (
    "the worker may not connect to where this URL leads: only public addresses are open, on "
    "ports 80 and 443 unless configured otherwise; an operator can open others by "
    "allow = ADDRESS:PORT in this plugin's section"
)


class OutgoingError(ZasyncError):
    """Root of what fails between a plugin and another server; never raised itself."""


class InvalidURL(OutgoingError):
    """The text is no absolute http or https URL that can be asked for."""


class InvalidHeader(OutgoingError):
    """A header's name or value cannot be sent, or is not the caller's to set."""


class SchemeRefused(OutgoingError):
    """The URL's scheme is not among those that are open."""


class AddressRefused(OutgoingError):
    """The URL leads to an address that plugins may not reach."""

    def __init__(self, message: str = ADDRESS_REFUSED) -> None:
        super().__init__(message)


class PortRefused(AddressRefused):
    """The URL's port is not among those that are open, whatever its address."""


class NameNotFound(OutgoingError):
    """The host's name has no address."""


class ConnectionFailed(OutgoingError):
    """No connection came about."""


class ConnectionRefused(ConnectionFailed):
    """The server is there, and nothing listens on that port."""


class TLSFailed(OutgoingError):
    """No trusted TLS connection came about; nothing was sent."""


class TimedOut(OutgoingError):
    """The whole of it, redirects included, took longer than allowed."""


class TooLarge(OutgoingError):
    """The response is larger than allowed, counted after decompression."""


class TooManyRedirects(OutgoingError):
    """The server sent us on more often than allowed."""


class RedirectLoop(TooManyRedirects):
    """The server sent us back to where we had been."""


class ProtocolFailed(OutgoingError):
    """What came is no complete HTTP response."""
