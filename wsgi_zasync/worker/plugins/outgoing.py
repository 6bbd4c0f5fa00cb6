# SPDX-License-Identifier: ZPL-2.1
"""The only module that opens connections for plugins. Reactor thread only.

A name is resolved once, all its addresses must be allowed, and the connection goes to one
of those very addresses, as a literal; the name is kept for ``Host`` and for TLS. So there
is no second look-up that could answer otherwise. Proxies of the environment are not used.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any, cast

from OpenSSL.crypto import Error as CryptoError
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP6ClientEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ...errors import ConfigurationError
from .addresses import OutgoingRules
from .failures import AddressRefused, NameNotFound

#: Seconds for one address; there may be several.
CONNECT_TIMEOUT = 10.0


class Outgoing:
    """Opens connections under one set of rules, and closes every one of them.

    Make one for one attempt and ``close()`` it at the end, however that comes.

    Args:
        reactor: What connects.
        rules: What it may connect to.
        resolver: What finds the addresses of a name; by default the reactor's, which asks
            the system in a thread of its pool.
        ca_file: PEM file of the authorities that TLS trusts instead of the system's.
    """

    def __init__(
        self,
        reactor: Any,
        rules: OutgoingRules,
        resolver: Any = None,
        ca_file: str | None = None,
    ) -> None:
        self._reactor = reactor
        self._resolver = reactor.nameResolver if resolver is None else resolver
        self._ca_file = ca_file
        self._open: set[_Connection] = set()
        self._budget: int | None = None
        self.rules = rules
        #: Whether ``limit_received`` has cut a connection.
        self.exceeded = False

    def endpoint(self, host: str, port: int, *, tls: bool = False) -> CheckedEndpoint:
        """Where to connect to; everything is checked when it connects."""
        return CheckedEndpoint(self, host, port, tls)

    def agent(self) -> Any:
        """A Twisted HTTP agent that connects through this, once per request."""
        return cast(Any, Agent).usingEndpointFactory(self._reactor, _ForURI(self))

    def limit_received(self, budget: int | None) -> None:
        """Cut connections that receive more than ``budget`` bytes from now on (None: never)."""
        self._budget = budget

    def close(self) -> None:
        """Drop all connections at once, without the courtesies of TLS and TCP."""
        for connection in list(self._open):
            connection.drop()

    async def addresses(self, host: str, port: int) -> list[str]:
        """The literal addresses of a host, all of them allowed.

        Raises:
            AddressRefused: At least one is not.
            NameNotFound: There are none.
        """
        found = [host] if _is_literal(host) else await self._resolve(host, port)
        if not found:
            raise NameNotFound(f"host {host!r} has no address; check its name, or try later")
        if not all(self.rules.allows(address, port) for address in found):
            raise AddressRefused
        return found

    async def connect(self, host: str, port: int, tls: bool, factory: Any) -> Any:
        """Connect to the first address of the host that answers.

        Raises:
            AddressRefused, NameNotFound: As ``addresses``.
            twisted.internet.error.ConnectError: None of them answered; the last's reason.
        """
        addresses = await self.addresses(host, port)
        creator = tls_options(host, self._ca_file) if tls else None
        tracking = _Tracking(self, factory)
        while True:
            endpoint = self._literal(addresses.pop(0), port)
            if creator is not None:
                endpoint = wrapClientTLS(creator, endpoint)
            try:
                return (await endpoint.connect(tracking)).wrappedProtocol
            except ConnectError:
                if not addresses:
                    raise

    def _literal(self, address: str, port: int) -> Any:
        kind = TCP6ClientEndpoint if ":" in address else TCP4ClientEndpoint
        return kind(self._reactor, address, port, CONNECT_TIMEOUT)

    def _resolve(self, host: str, port: int) -> Deferred[list[str]]:
        receiver = _Addresses()
        self._resolver.resolveHostName(receiver, host, port)
        return receiver.complete

    def _received(self, size: int) -> None:
        if self._budget is not None:
            self._budget -= size
            if self._budget < 0:
                self.exceeded = True
                self.close()


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@implementer(IResolutionReceiver)
class _Addresses:
    """Collects what a resolver finds for one name."""

    def __init__(self) -> None:
        self._found: list[str] = []
        self.complete: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolution: Any) -> None:
        """The resolver has begun; it has no way to stop it that is safe to use."""

    def addressResolved(self, address: Any) -> None:
        """One more address."""
        if isinstance(address, (IPv4Address, IPv6Address)):
            self._found.append(address.host)
        else:
            self._found.append("")  # no address that could be allowed

    def resolutionComplete(self) -> None:
        """There are no more; late for a call that was cancelled meanwhile, which is no matter."""
        if not self.complete.called:
            self.complete.callback(self._found)


@implementer(IStreamClientEndpoint)
class CheckedEndpoint:
    """One host and port, connected to only where the rules allow it."""

    def __init__(self, outgoing: Outgoing, host: str, port: int, tls: bool) -> None:
        self._outgoing = outgoing
        self._host = host
        self._port = port
        self._tls = tls

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Resolve, check and connect; can be cancelled."""
        return Deferred.fromCoroutine(
            self._outgoing.connect(self._host, self._port, self._tls, protocolFactory)
        )


@implementer(IAgentEndpointFactory)
class _ForURI:
    """What a Twisted agent asks for a connection to where a request goes."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing

    def endpointForURI(self, uri: URI) -> CheckedEndpoint:
        scheme, host = uri.scheme.decode("ascii"), uri.host.decode("ascii")
        self._outgoing.rules.check(scheme, uri.port, f"{scheme}://{host}")
        return self._outgoing.endpoint(host, uri.port, tls=scheme == "https")


class _Connection(ProtocolWrapper):
    """A protocol that we know of, so that its connection can be counted and dropped."""

    factory: _Tracking

    def connectionMade(self) -> None:
        self.factory.outgoing._open.add(self)
        super().connectionMade()  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        self.factory.outgoing._received(len(data))
        if self in self.factory.outgoing._open:
            super().dataReceived(data)  # type: ignore[no-untyped-call]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.outgoing._open.discard(self)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def drop(self) -> None:
        self.factory.outgoing._open.discard(self)
        cast(Any, self.transport).abortConnection()


class _Tracking(WrappingFactory):
    protocol = _Connection
    noisy = False

    def __init__(self, outgoing: Outgoing, factory: Any) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]
        self.outgoing = outgoing


@lru_cache(maxsize=64)
def tls_options(host: str, ca_file: str | None) -> IOpenSSLClientConnectionCreator:
    """How to speak TLS to a host: its certificate must be trusted and must name it.

    Kept per host, since reading the authorities takes milliseconds of the reactor's time.

    Raises:
        ConfigurationError: ``ca_file`` cannot be read or holds no certificate.
    """
    return optionsForClientTLS(host, trustRoot=authorities(ca_file) if ca_file else None)


def authorities(ca_file: str) -> Any:
    """What TLS trusts instead of the system's authorities.

    Raises:
        ConfigurationError: The file cannot be read, or holds no certificate.
    """
    marker = b"-----BEGIN CERTIFICATE-----"
    try:
        with open(ca_file, "rb") as file:
            _, *blocks = file.read().split(marker)
        certificates = [Certificate.loadPEM(marker + block) for block in blocks]
    except (OSError, ValueError, CryptoError) as exc:
        raise ConfigurationError(f"ca_file: {ca_file} cannot be read: {exc}") from exc
    if not certificates:
        raise ConfigurationError(f"ca_file: there is no PEM certificate in {ca_file}")
    return trustRootFromCertificates(certificates)  # type: ignore[no-untyped-call]
