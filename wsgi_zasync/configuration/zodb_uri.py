# SPDX-License-Identifier: ZPL-2.1
"""What a ``zodb_uri`` says of its storage before anything is opened."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigurationError

#: Schemes of storages that no other process has open at the same time.
_OWN = ("", "file", "memory")

# Up to the last @, since a password may have been written as it is, with a slash or an @ in it. A
# path, as after file://, has no user.
_USERINFO = re.compile(r"(?<=[^/]//)(?!/)\S*@")
_SECRET_QUERY = re.compile(r"(?i)([?&][^=&]*(?:pass|pwd|secret|token|key)[^=&]*=)[^&]*")


def without_password(text: str) -> str:
    """An address as it may be shown, or a text with it: user, password and secrets masked."""
    return _SECRET_QUERY.sub(r"\1***", _USERINFO.sub("***@", text))


def may_be_shared(uri: str) -> bool:
    """Whether other processes may have the same storage open."""
    inner = uri
    while inner.startswith("demo:"):
        # demo:(BASE)/(CHANGES): calls are written to the changes.
        inner = inner.rpartition(")/(")[2].rstrip(")").partition(")")[0]
    return inner.partition(":")[0] not in _OWN if ":" in inner else False


def refuse_cut_short(uri: str, here: Path) -> None:
    """Refuse an address that leads through a directory with a ``?``: the path would end there.

    Nothing in an address stands for that character, and what was opened is another file.

    Args:
        uri: As it was written, or made of ``%(here)s``.
        here: That directory.

    Raises:
        ConfigurationError: With what to do instead.
    """
    directory = str(here.absolute())
    if "?" in directory and directory in uri:
        raise ConfigurationError(
            f"an address ends at a ?, and the directory {directory} has one: name the storage in "
            "a zodb_conf, or call the directory something else"
        )


def refuse_open_zeo(uri: str) -> None:
    """Refuse a ZEO address that others than this machine reach.

    Raises:
        ConfigurationError: With what to do instead.
    """
    for found in re.findall(r"zeo://[^)]*", uri):
        host = urlsplit(found).hostname
        if host is not None:
            refuse_open_address(host)


def refuse_open_servers(path: Path) -> None:
    """The same for the ``server`` lines of a ZConfig file; one with TLS may be anywhere.

    Raises:
        ConfigurationError: With what to do instead.
    """
    content = path.read_text(encoding="utf-8", errors="replace")
    for section in re.findall(r"(?is)<zeoclient\b.*?</zeoclient", content):
        if re.search(r"(?im)^\s*<ssl\b", section):
            continue
        for server in re.findall(r"(?im)^\s*server\s+(\S+)", section):
            # A path is a unix socket, and a port alone is one of this machine.
            if not server.startswith("/") and not server.isdigit():
                refuse_open_address(urlsplit(f"//{server}").hostname or server)


def refuse_open_address(host: str) -> None:
    """Refuse a host that is not this machine itself.

    Raises:
        ConfigurationError: ZEO has no passwords: who reaches its port owns every client.
    """
    if host == "localhost" or _is_loopback(host):
        return
    raise ConfigurationError(
        f"ZEO at {host} can be reached from elsewhere, and ZEO has no passwords: use a unix "
        "socket or 127.0.0.1, TLS with client certificates in zodb_conf, or insecure_zeo = yes "
        "where a firewall keeps others out"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
