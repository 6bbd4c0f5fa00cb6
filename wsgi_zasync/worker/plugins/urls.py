# SPDX-License-Identifier: ZPL-2.1
"""One strict reading of a URL, so that what is checked is what is connected to. Pure.

Readers of URLs differ on backslashes, blanks, ``@``, full-width digits and numbers as
hosts, and an attacker lives on the difference. Here the odd is refused, not guessed.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin

import idna

from .failures import AddressRefused, InvalidURL, SchemeRefused

MAX_URL = 8192
DEFAULT_PORTS = {"http": 80, "https": 443}

_PARTS = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/?#]*)([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{0,5}))?")
_NAME = re.compile(r"(?!-)[a-z0-9_\-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_\-]{1,63}(?<!-))*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_SAFE = "/%:@!$&'()*+,;=-._~"


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A URL taken apart: where to connect, and what to ask for there."""

    scheme: str
    #: ASCII, lower case, without brackets: a name, or an address in its only spelling.
    host: str
    port: int
    #: Starts with a slash; ASCII.
    path: str
    #: Empty, or starts with a question mark; ASCII.
    query: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """What two URLs share when they are of one site."""
        return (self.scheme, self.host, self.port)

    @property
    def site(self) -> str:
        """Scheme, host and, where it is not the usual one, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if DEFAULT_PORTS.get(self.scheme, 0) == self.port else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def url(self) -> str:
        """The whole URL, without a fragment."""
        return f"{self.site}{self.path}{self.query}"

    @property
    def shown(self) -> str:
        """The URL as messages name it: without its query, which may hold a token."""
        return _shortened(self.site + self.path) + ("?…" if self.query else "")

    def follow(self, location: str) -> Target:
        """Where a ``Location`` header of this URL leads.

        Raises:
            InvalidURL: Nowhere.
            SchemeRefused: To what is not on a server.
        """
        try:
            return parse(urljoin(self.url, location))
        except ValueError as exc:
            raise InvalidURL(f"{self.shown} redirects to something that is no URL") from exc


def parse(url: str) -> Target:
    """Take a URL apart.

    Raises:
        InvalidURL: It is not absolute, names a user, or has something odd in it.
        SchemeRefused: It names no host, and has a scheme that needs none.
        AddressRefused: Its host is a number in a spelling other than ``a.b.c.d``.
    """
    if not isinstance(url, str):
        raise InvalidURL(f"the URL must be text, not {type(url).__name__}")
    shown = redacted(url)
    if len(url) > MAX_URL:
        raise InvalidURL(f"{shown}: the URL is longer than {MAX_URL:,} characters")
    if any(c == "\\" or c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in url):
        raise InvalidURL(f"{shown}: blanks, controls and backslashes must be percent-encoded")
    parts = _PARTS.fullmatch(url)
    if parts is None:
        raise InvalidURL(f"{shown}: not an absolute URL such as https://example.org/path")
    scheme, authority, path, query = parts[1].lower(), parts[2], parts[3], parts[4] or ""
    if "@" in authority:
        raise InvalidURL(
            f"{shown}: a URL with user or password is not accepted; send an Authorization header"
        )
    if not authority and scheme not in DEFAULT_PORTS:
        # Such as file:///path, which is a URL all the same.
        raise SchemeRefused(f"{shown} has the scheme {scheme!r}, and leads to no server")
    host, port = _host_and_port(authority, scheme, shown)
    return Target(
        scheme=scheme,
        host=host,
        port=port,
        path=quote(path, safe=_SAFE) or "/",
        query=quote(query, safe=_SAFE + "?"),
    )


def _host_and_port(authority: str, scheme: str, shown: str) -> tuple[str, int]:
    found = _AUTHORITY.fullmatch(authority)
    if found is None:
        raise InvalidURL(f"{shown}: no host and port can be read from it")
    if found[1] is not None:
        try:
            host = IPv6Address(found[1]).compressed
        except AddressValueError as exc:
            raise InvalidURL(f"{shown}: no IPv6 address stands between the brackets") from exc
    else:
        host = _name(found[2], shown)
    port = int(found[3]) if found[3] else DEFAULT_PORTS.get(scheme, 0)
    if not (0 < port < 65536 or (port == 0 and not found[3])):
        raise InvalidURL(f"{shown}: the port must be from 1 to 65535")
    return host, port


def _name(text: str, shown: str) -> str:
    """A host's name in ASCII, or an IPv4 address."""
    try:
        name = text if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    except (idna.IDNAError, UnicodeError) as exc:
        raise InvalidURL(f"{shown}: the host is no valid name") from exc
    name = name.lower().removesuffix(".")
    if len(name) > 253 or _NAME.fullmatch(name) is None:
        raise InvalidURL(f"{shown}: the host is no valid name")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        try:
            return str(IPv4Address(name))
        except AddressValueError:
            # 2130706433, 127.1, 0x7f.1, 0177.0.0.1: resolvers make addresses of these.
            raise AddressRefused from None
    return name


def redacted(url: str) -> str:
    """Any text meant as a URL, fit for a message: no user, password, query or control.

    Takes away too much rather than too little, since the text may be no URL at all.
    """
    if "@" in url:
        scheme = re.match(r"[A-Za-z][A-Za-z0-9+.\-]*:(?=[/\\])", url)
        url = f"{scheme[0] if scheme else ''}//***@{url.rpartition('@')[2]}"
    head = re.split(r"[?#]", url, maxsplit=1)[0]
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in head)
    return _shortened(printable)


def _shortened(text: str) -> str:
    return text if len(text) <= 300 else text[:300] + "…"
