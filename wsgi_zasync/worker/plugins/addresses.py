# SPDX-License-Identifier: ZPL-2.1
"""Which addresses and ports plugins may connect to. Pure: no socket, no name is looked up.

Closed by default: an address must be known to be public. ``ipaddress`` alone does not
decide that, since its answers differ between versions of Python and it takes many IPv6
addresses that lead to an IPv4 one (``64:ff9b::7f00:1``, ``2002:7f00:1::``) for public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from ...errors import ConfigurationError
from .failures import PortRefused, SchemeRefused

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: IPv4 networks that are never public, whatever ``is_global`` of this Python says.
CLOSED_IPV4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # between a provider and its customers; a metadata service in a cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's own service on each machine, looking public
        "169.254.0.0/16",  # link-local, and the metadata services
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)

#: The only IPv6 addresses that are handed out to be reached from everywhere …
GLOBAL_UNICAST = IPv6Network("2000::/3")

#: … without these parts of it.
CLOSED_IPV6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",
    )
)

#: An IPv4 address in the last 32 bits; ``::`` and ``::1`` are IPv4-compatible 0.0.0.0 and 0.0.0.1.
EMBEDDING = (
    IPv6Network("::/96"),
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("64:ff9b::/96"),
)
SIX_TO_FOUR = IPv6Network("2002::/16")
_ISATAP = (0x00005EFE, 0x02005EFE)


def embedded_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that packets to this IPv6 address end up at, if there is one.

    Mapped, compatible, well-known NAT64 and 6to4. Teredo and local-use NAT64 are not
    unwrapped, because they are closed as a whole.
    """
    if any(address in network for network in EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return None


def is_public(address: Address) -> bool:
    """Whether the address is known to be reachable from, and meant for, everybody."""
    if isinstance(address, IPv4Address):
        return _is_public_ipv4(address)
    if address.scope_id:
        return False
    inner = embedded_ipv4(address)
    if inner is not None:
        return _is_public_ipv4(inner)
    if int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
        return False
    return (
        address in GLOBAL_UNICAST
        and address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_site_local)
        and not any(address in network for network in CLOSED_IPV6)
    )


def _is_public_ipv4(address: IPv4Address) -> bool:
    return (
        address.is_global
        and not (address.is_multicast or address.is_reserved or address.is_unspecified)
        and not any(address in network for network in CLOSED_IPV4)
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """A network that the configuration opens, on one port, on any, or on the usual ones."""

    network: Network
    #: A port number, 0 for any port, None for the ports that are open everywhere.
    port: int | None

    @classmethod
    def from_text(cls, text: str) -> Opening:
        """Read ``10.0.0.0/8``, ``127.0.0.1:8080``, ``[::1]:8080``, ``[fd00::/8]:*``.

        Raises:
            ConfigurationError: It is none of these.
        """
        network, port = text, None
        if text.startswith("["):
            network, bracket, port = text[1:].partition("]")
            if not bracket or (port and not port.startswith(":")):
                raise _bad_opening(text)
            port = port[1:] or None
        elif text.count(":") == 1:
            network, port = text.split(":")
        try:
            return cls(ip_network(network), None if port is None else _port(port, "*"))
        except ValueError as exc:
            raise _bad_opening(text) from exc

    def covers(self, address: Address, port: int, usual: tuple[int, ...]) -> bool:
        """Whether a connection to this address and port is opened by this."""
        if address.version != self.network.version or address not in self.network:
            return False
        return self.has_port(port, usual)

    def has_port(self, port: int, usual: tuple[int, ...]) -> bool:
        """Whether this opens the port for any address at all."""
        return port in usual if self.port is None else self.port in (0, port)


def _bad_opening(text: str) -> ConfigurationError:
    return ConfigurationError(
        f"allow: {text!r} is no network; write 10.0.0.0/8, 127.0.0.1:8080, [::1]:8080 or "
        "10.1.2.3:* (host bits of a network must be zero)"
    )


def _port(text: str, any_port: str = "") -> int:
    if any_port and text == any_port:
        return 0
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
        raise ValueError(f"{text!r} is no port")
    return int(text)


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingRules:
    """What plugins may connect to.

    Raises:
        ConfigurationError: A scheme, port or network that cannot be read.
    """

    #: URL schemes that are open.
    schemes: tuple[str, ...] = ("http", "https")
    #: Ports that are open on public addresses.
    ports: tuple[int, ...] = (80, 443)
    #: Networks that are open although they are not public, as text (``Opening.from_text``).
    allow: tuple[str, ...] = ()
    openings: tuple[Opening, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            if scheme not in ("http", "https"):
                raise ConfigurationError(f"schemes: {scheme!r} is neither http nor https")
        for port in self.ports:
            if not 1 <= port <= 65535:
                raise ConfigurationError(f"ports: {port} is no port")
        object.__setattr__(self, "openings", tuple(map(Opening.from_text, self.allow)))

    @classmethod
    def from_settings(cls, settings: Mapping[str, str]) -> OutgoingRules:
        """Read ``schemes``, ``ports`` and ``allow``, each a list separated by blanks.

        Other keys are left to the plugin.

        Raises:
            ConfigurationError: An entry that cannot be read.
        """
        given: dict[str, tuple[str, ...]] = {
            key: tuple(settings[key].replace(",", " ").split())
            for key in ("schemes", "ports", "allow")
            if key in settings
        }
        try:
            ports = tuple(map(_port, given["ports"])) if "ports" in given else (80, 443)
        except ValueError as exc:
            raise ConfigurationError(f"ports: {exc}; write numbers such as 80 443") from exc
        return cls(
            schemes=given.get("schemes", ("http", "https")),
            ports=ports,
            allow=given.get("allow", ()),
        )

    def allows(self, address: str | Address, port: int) -> bool:
        """Whether a connection to this literal address and port is open.

        Anything that is no plain address is not.
        """
        try:
            ip = ip_address(address) if isinstance(address, str) else address
        except ValueError:
            return False
        if isinstance(ip, IPv6Address) and ip.scope_id is None and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped  # the same socket, so that it falls under the same opening
        if any(opening.covers(ip, port, self.ports) for opening in self.openings):
            return True
        return port in self.ports and is_public(ip)

    def check(self, scheme: str, port: int, shown: str) -> None:
        """Refuse a scheme or port that is open for no address, before any name is looked up.

        Raises:
            SchemeRefused: ``scheme`` is not open.
            PortRefused: ``port`` is open nowhere.
        """
        if scheme not in self.schemes:
            raise SchemeRefused(
                f"{shown} has the scheme {scheme!r}, which is not open; use "
                f"{' or '.join(self.schemes)}"
            )
        usual = port in self.ports
        if not usual and not any(o.has_port(port, self.ports) for o in self.openings):
            raise PortRefused
