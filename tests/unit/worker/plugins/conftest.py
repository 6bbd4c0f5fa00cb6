# SPDX-License-Identifier: ZPL-2.1
"""Servers on loopback that say exactly what a test wants, and the one reactor to ask them with."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.internet import tcp
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread
from twisted.logger import LogLevel, globalLogPublisher

from wsgi_zasync.worker.running.reactor import ensure_running

PATIENCE = 10.0
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class Request:
    """What a server was asked."""

    path: str
    headers: dict[str, str]


@dataclass
class Site:
    """A server in threads: ``answers`` maps a path to the bytes that are sent for it.

    An answer is bytes, an iterable of bytes, or a callable of the socket.
    """

    address: str = "127.0.0.1"
    port_wanted: int = 0
    context: ssl.SSLContext | None = None
    #: Said at once, before any request.
    greeting: bytes = b""
    answers: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    #: Connections that were accepted, and how many of them have ended since.
    accepted: int = 0
    ended: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        self._socket = socket.create_server((self.address, self.port_wanted), family=family)
        self.port = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        scheme = "https" if self.context else "http"
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{scheme}://{host}:{self.port}"

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, PATIENCE), "the server waited in vain"

    def wait_for_the_end_of_all_connections(self) -> None:
        self.wait_until(lambda: 0 < self.accepted == self.ended)

    def _change(self, **by: int) -> None:
        with self.changed:
            for name, number in by.items():
                setattr(self, name, getattr(self, name) + number)
            self.changed.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self._change(accepted=1)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(PATIENCE)
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self._answer(connection)
        except OSError:  # what a client that goes away looks like; ssl.SSLError is one
            pass
        finally:
            connection.close()
            self._change(ended=1)

    def _answer(self, connection: socket.socket) -> None:
        connection.sendall(self.greeting)
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                return
            head += more
        first, *lines = head.decode("latin-1").partition("\r\n\r\n")[0].split("\r\n")
        pairs = (line.split(": ", 1) for line in lines)
        request = Request(first.split(" ")[1], {name.lower(): value for name, value in pairs})
        with self.changed:
            self.requests.append(request)
            self.changed.notify_all()
        answer = self.answers.get(request.path.partition("?")[0], NOT_FOUND)
        if callable(answer):
            answer(connection)
        else:
            for chunk in [answer] if isinstance(answer, bytes) else answer:
                connection.sendall(chunk)


class Names:
    """A resolver whose answers are given: a list of addresses per look-up of a name."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self.answers = {name.replace("_", "."): list(given) for name, given in answers.items()}
        self.asked: list[str] = []

    def resolveHostName(
        self, receiver: Any, hostName: str, portNumber: int = 0, *args: Any, **kwargs: Any
    ) -> Any:
        self.asked.append(hostName)
        given = self.answers[hostName]
        receiver.resolutionBegan(self)
        for address in given.pop(0) if len(given) > 1 else given[0]:
            kind = IPv6Address if ":" in address else IPv4Address
            receiver.addressResolved(kind("TCP", address, portNumber))
        receiver.resolutionComplete()
        return self

    def cancel(self) -> None:
        raise NotImplementedError


@pytest.fixture(scope="session")
def reactor() -> Any:
    return ensure_running()


@pytest.fixture
def run(reactor: Any) -> Iterator[Callable[..., Any]]:
    """Call something in the reactor's thread and wait for what its Deferred brings.

    At the end nothing may be left in the reactor, and nothing may have been logged as an error.
    """
    errors: list[Any] = []

    def observe(event: dict[str, Any]) -> None:
        if event.get("log_level") in (LogLevel.error, LogLevel.critical):
            errors.append(event)

    globalLogPublisher.addObserver(observe)
    before = set(map(id, blockingCallFromThread(reactor, reactor.getDelayedCalls)))
    yield lambda function, *args, **kwargs: blockingCallFromThread(
        reactor, lambda: function(*args, **kwargs)
    )
    for _ in range(3):
        blockingCallFromThread(reactor, lambda: deferLater(reactor, 0, lambda: None))
    left = blockingCallFromThread(
        reactor,
        lambda: (
            [call for call in reactor.getDelayedCalls() if id(call) not in before],
            [r for r in reactor.getReaders() + reactor.getWriters() if isinstance(r, tcp.Client)],
        ),
    )
    globalLogPublisher.removeObserver(observe)
    assert left == ([], [])
    assert errors == []


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def sites() -> Iterator[Callable[..., Site]]:
    """Makes servers, and closes them at the end."""
    made: list[Site] = []

    def make(**kwargs: Any) -> Site:
        made.append(Site(**kwargs))
        return made[-1]

    yield make
    for site in made:
        site.close()


@pytest.fixture
def untouchable() -> Iterator[Site]:
    """A server on loopback that fails the test when anybody connects to it."""
    site = Site()
    yield site
    site.close()
    assert site.accepted == 0, "a connection to loopback was made"


@dataclass
class Certificates:
    """PEM files of an authority and of a server's certificate that it made."""

    ca_file: str
    server: ssl.SSLContext


def certificates_for(
    directory: Any,
    names: Iterable[str] = (),
    addresses: Iterable[str] = (),
    *,
    expired: bool = False,
) -> Certificates:
    """A self-signed certificate, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    end = now + datetime.timedelta(days=-1 if expired else 1)
    alternatives = [
        *map(x509.DNSName, names),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    ca_file = directory / "ca.pem"
    ca_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    both = directory / "server.pem"
    both.write_bytes(
        ca_file.read_bytes()
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(both)
    return Certificates(str(ca_file), context)


@pytest.fixture
def certificates(tmp_path: Any) -> Callable[..., Certificates]:
    """Makes a server's certificate for names and addresses."""

    def make(*names: str, **options: Any) -> Certificates:
        return certificates_for(tmp_path, names, **options)

    return make


@pytest.fixture
def names() -> Any:
    """The class of resolvers that know only what they are told."""
    return Names
