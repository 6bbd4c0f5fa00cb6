# SPDX-License-Identifier: ZPL-2.1
"""One module opens connections: no other does, and it leaves none behind."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

import wsgi_zasync
from wsgi_zasync.worker.plugins.addresses import OutgoingRules
from wsgi_zasync.worker.plugins.failures import AddressRefused, NameNotFound
from wsgi_zasync.worker.plugins.http import Fetch
from wsgi_zasync.worker.plugins.outgoing import Outgoing, tls_options
from wsgi_zasync.worker.plugins.urls import parse

PACKAGE = Path(wsgi_zasync.__file__).parent

#: Names by which Python and Twisted open connections.
OPENERS = {
    "Agent", "ClientCreator", "HTTPClient", "HTTPConnection", "HTTPSConnection",
    "HostnameEndpoint", "ProxyAgent", "SSL4ClientEndpoint", "TCP4ClientEndpoint",
    "TCP6ClientEndpoint", "UNIXClientEndpoint", "clientFromString", "connectProtocol",
    "connectSSL", "connectTCP", "connectUDP", "connectUNIX", "create_connection", "httpx",
    "listenUDP", "open_connection", "requests", "urllib3", "urlopen",
}  # fmt: skip


def names_in(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= {alias.name.split(".")[0] for alias in node.names}
    return found


def test_no_other_module_of_the_package_opens_connections() -> None:
    found = {
        str(path.relative_to(PACKAGE)): opened
        for path in PACKAGE.rglob("*.py")
        if (opened := names_in(path.read_text()) & OPENERS)
    }
    assert found == {
        "worker/plugins/outgoing.py": {"Agent", "TCP4ClientEndpoint", "TCP6ClientEndpoint"}
    }


def test_no_plugin_touches_sockets() -> None:
    for path in (PACKAGE / "worker" / "plugins").rglob("*.py"):
        assert "socket" not in names_in(path.read_text())


class Line(Protocol):
    """Sends a line and keeps what comes."""

    def __init__(self) -> None:
        self.lost = False

    def connectionMade(self) -> None:
        self.transport.write(b"GET / HTTP/1.0\r\n\r\n")

    def connectionLost(self, reason: Any = None) -> None:
        self.lost = True


def outgoing_to(reactor: Any, site: Any, names: Any = None) -> Outgoing:
    return Outgoing(reactor, OutgoingRules(allow=(f"127.0.0.1:{site.port}",)), names)


def test_any_protocol_can_be_connected_and_is_dropped_at_the_end(
    reactor: Any, run: Any, site: Any
) -> None:
    # Given a connection of a protocol that knows nothing of HTTP
    outgoing = outgoing_to(reactor, site)
    endpoint = outgoing.endpoint("127.0.0.1", site.port)
    line = run(endpoint.connect, Factory.forProtocol(Line))
    assert isinstance(line, Line)
    # When all is closed, more than once
    run(outgoing.close)
    run(outgoing.close)
    # Then the server sees the end of it, and so does the protocol
    site.wait_for_the_end_of_all_connections()
    run(lambda: None)
    assert line.lost


def test_an_endpoint_refuses_what_the_rules_refuse(
    reactor: Any, run: Any, site: Any, untouchable: Any, names: Any
) -> None:
    known = names(empty_test=[[]], public_test=[["8.8.8.8"]])
    outgoing = outgoing_to(reactor, site, known)
    for host, port, error in (
        ("127.0.0.1", untouchable.port, AddressRefused),
        ("127.0.0.2", site.port, AddressRefused),
        ("::1", site.port, AddressRefused),
        ("public.test", site.port, AddressRefused),
        ("empty.test", site.port, NameNotFound),
    ):
        with pytest.raises(error):
            run(outgoing.endpoint(host, port).connect, Factory.forProtocol(Line))


def test_an_answer_that_is_no_internet_address_is_refused(reactor: Any, run: Any) -> None:
    # Given a resolver that offers a socket of this machine
    class Odd:
        def resolveHostName(self, receiver: Any, *args: Any) -> None:
            receiver.resolutionBegan(self)
            receiver.addressResolved(object())
            receiver.resolutionComplete()

    outgoing = Outgoing(reactor, OutgoingRules(allow=("0.0.0.0/0:*", "[::/0]:*")), Odd())
    # When, then
    with pytest.raises(AddressRefused):
        run(outgoing.endpoint("odd.test", 80).connect, Factory.forProtocol(Line))


def test_a_connection_that_receives_more_than_its_budget_is_cut(
    reactor: Any, run: Any, site: Any
) -> None:
    # Given a server that sends 1,000 bytes and waits for the client to go
    def thousand(connection: Any) -> None:
        connection.sendall(bytes(1000))
        connection.recv(1)

    site.answers["/"] = thousand
    outgoing = outgoing_to(reactor, site)
    outgoing.limit_received(999)
    # When
    run(outgoing.endpoint("127.0.0.1", site.port).connect, Factory.forProtocol(Line))
    site.wait_for_the_end_of_all_connections()
    # Then
    run(lambda: None)
    assert outgoing.exceeded


def test_reading_the_authorities_is_done_once_for_a_host() -> None:
    assert tls_options("example.org", None) is tls_options("example.org", None)
    assert tls_options("example.org", None) is not tls_options("example.net", None)


class TestConnecting:
    """With a reactor in memory, which shows what would have been connected to."""

    def connecting(self, names: Any, *addresses: str, tls: bool = False) -> tuple[Any, Any]:
        memory = MemoryReactorClock()
        outgoing = Outgoing(memory, OutgoingRules(), names(good_test=[list(addresses)]))
        port = 443 if tls else 80
        return memory, outgoing.endpoint("good.test", port, tls=tls).connect(Factory())

    def test_what_is_connected_to_is_the_checked_address_and_no_name(self, names: Any) -> None:
        for addresses, tls in (
            (["93.184.216.34"], False),
            (["2606:4700:4700::1111", "1.1.1.1"], False),
            (["93.184.216.34"], True),
        ):
            memory, connecting = self.connecting(names, *addresses, tls=tls)
            (host, port, *_), *more = memory.tcpClients
            assert (host, port, more) == (addresses[0], 443 if tls else 80, [])
            connecting.addErrback(lambda _: None).cancel()

    def test_cancelling_stops_connecting_and_tries_no_other_address(self, names: Any) -> None:
        # Given a name of two addresses
        memory, connecting = self.connecting(names, "1.1.1.1", "8.8.8.8")
        ended: list[Any] = []
        connecting.addErrback(ended.append)
        # When
        connecting.cancel()
        # Then
        assert ended[0].check(ConnectingCancelledError)
        assert memory.connectors[0].stoppedConnecting
        assert len(memory.tcpClients) == 1

    def test_a_fetch_that_is_cancelled_while_connecting_is_just_cancelled(self, names: Any) -> None:
        # Given
        memory = MemoryReactorClock()
        known = names(good_test=[["1.1.1.1", "8.8.8.8"]])
        outgoing = Outgoing(memory, OutgoingRules(), known)
        fetching = Fetch(target=parse("http://good.test/")).start(memory, outgoing)
        ended: list[Any] = []
        fetching.addErrback(ended.append)
        # When
        fetching.cancel()
        # Then
        assert ended[0].check(CancelledError)
        assert len(memory.tcpClients) == 1
        assert memory.getDelayedCalls() == []
