# SPDX-License-Identifier: ZPL-2.1
"""``http.get`` against real servers on loopback, friendly and hostile ones."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from datetime import timedelta
from inspect import signature
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred

from wsgi_zasync import bundled
from wsgi_zasync.errors import ConfigurationError, InvalidArguments
from wsgi_zasync.plugins import parameters_of
from wsgi_zasync.sealing import Secret
from wsgi_zasync.worker.plugins import failures
from wsgi_zasync.worker.plugins.addresses import OutgoingRules
from wsgi_zasync.worker.plugins.http import Fetch, get
from wsgi_zasync.worker.plugins.outgoing import Outgoing
from wsgi_zasync.worker.plugins.urls import parse
from wsgi_zasync.worker.redaction import shown


def attempt_with(**settings: str) -> Any:
    """As much of an attempt as the plugin looks at."""
    return SimpleNamespace(settings=settings)


def answer(body: bytes = b"", status: str = "200 OK", *headers: str) -> bytes:
    """A response that ends with its body."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def redirect_to(location: str, status: str = "302 Found") -> bytes:
    return answer(b"over there", status, f"Location: {location}")


def silence(connection: socket.socket) -> None:
    """Say nothing, until the client goes away."""
    while connection.recv(65536):
        pass


def reset(connection: socket.socket) -> None:
    """End the connection by RST, as a crashing server does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture
def fetch(run: Callable[..., Any], site: Any) -> Callable[..., Any]:
    """Ask the site for a path by the plugin itself, allowed to reach just that site."""

    def fetch(path: str = "/", *, settings: dict[str, str] | None = None, **kwargs: Any) -> Any:
        allowed = {"allow": f"127.0.0.1:{site.port}", **(settings or {})}
        url = path if "://" in path else site.url + path
        return run(get, attempt_with(**allowed), url, **kwargs)

    return fetch


@pytest.fixture
def fetch_by_name(run: Callable[..., Any], reactor: Any) -> Callable[..., Any]:
    """Ask for a URL with names that a resolver of the test's own knows."""

    def fetch(url: str, names: Any, rules: OutgoingRules, **options: Any) -> Any:
        outgoing = Outgoing(reactor, rules, names, options.pop("ca_file", None))
        return run(Fetch(target=parse(url), **options).start, reactor, outgoing)

    return fetch


class TestResults:
    def test_an_answer_is_plain_data(self, site: Any, fetch: Any) -> None:
        # Given
        site.answers["/page"] = answer(
            "grün".encode(), "200 Fine", "Content-Type: text/html; charset=utf-8",
            "X-Two: 1", "x-two: 2",
        )  # fmt: skip
        # When
        result = fetch("/page?q=1")
        # Then
        assert result == {
            "url": f"{site.url}/page?q=1",
            "status": 200,
            "reason": "Fine",
            "headers": {"content-type": "text/html; charset=utf-8", "x-two": "1, 2"},
            "content_type": "text/html",
            "charset": "utf-8",
            "text": "grün",
            "body": None,
            "size": 5,
            "redirects": [],
        }
        for value in result.values():
            assert type(value) in (str, int, dict, list, type(None))
        assert site.requests[0].path == "/page?q=1"

    def test_what_is_no_text_comes_as_bytes(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(b"\x89PNG\0", "200 OK", "Content-Type: image/png")
        result = fetch()
        assert (result["text"], result["body"], result["charset"]) == (None, b"\x89PNG\0", None)

    def test_text_comes_as_bytes_when_asked_for(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(b"text", "200 OK", "Content-Type: text/plain")
        result = fetch(as_bytes=True)
        assert (result["text"], result["body"]) == (None, b"text")

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "404 Gone?", "500 X"])
    def test_any_status_is_a_result(self, site: Any, fetch: Any, status: str) -> None:
        site.answers["/"] = answer(b"", status)
        assert fetch()["status"] == int(status[:3])

    @pytest.mark.parametrize(
        ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
    )
    def test_compression_is_undone_and_not_mentioned(
        self, site: Any, fetch: Any, encoding: str, compress: Callable[[bytes], bytes]
    ) -> None:
        # Given
        site.answers["/"] = answer(
            compress(b"hello"),
            "200 OK",
            f"Content-Encoding: {encoding}",
            "Content-Type: text/plain",
        )
        # When
        result = fetch()
        # Then
        assert (result["text"], result["size"]) == ("hello", 5)
        assert "content-encoding" not in result["headers"]

    def test_compression_that_nobody_asked_for_stays(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(
            b"\x0b\x02", "200 OK", "Content-Encoding: br", "Content-Type: text/plain"
        )
        result = fetch()
        assert (result["body"], result["headers"]["content-encoding"]) == (b"\x0b\x02", "br")

    @pytest.mark.parametrize(
        "raw",
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n"
            b"3\r\nllo\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            b"HTTP/1.1 200\nContent-Length: 5\n\nhello",
        ],
    )
    def test_an_answer_may_be_framed_in_any_way_of_http(
        self, site: Any, fetch: Any, raw: bytes
    ) -> None:
        site.answers["/"] = raw
        assert fetch()["text"] == "hello"

    def test_our_headers_are_sent_and_the_callers_win(self, site: Any, fetch: Any) -> None:
        # When
        fetch("/", headers={"Accept": "application/atom+xml", "X-Key": "k"})
        # Then
        sent = site.requests[0].headers
        assert sent["host"] == f"127.0.0.1:{site.port}"
        assert sent["accept"] == "application/atom+xml"
        assert sent["accept-encoding"].startswith("gzip, deflate")
        assert sent["user-agent"] == "wsgi_zasync"
        assert sent["x-key"] == "k"

    def test_a_secret_header_is_opened_for_the_server_only(self, site: Any, fetch: Any) -> None:
        # When
        result = fetch("/", headers={"Authorization": Secret("Bearer t0ken")})
        # Then
        assert site.requests[0].headers["authorization"] == "Bearer t0ken"
        assert "t0ken" not in repr(result)
        assert "t0ken" not in repr(Fetch(target=parse("http://x/"), headers={"X": "t0ken"}))

    def test_the_operator_may_name_the_client(self, site: Any, fetch: Any) -> None:
        fetch("/", settings={"user_agent": "our-site (admin@example.org)"})
        assert site.requests[0].headers["user-agent"] == "our-site (admin@example.org)"

    def test_an_ipv6_address_can_be_asked(self, run: Any, sites: Any) -> None:
        # Given
        try:
            site = sites(address="::1")
        except OSError:
            pytest.skip("this machine has no IPv6")
        site.answers["/"] = answer(b"six")
        # When
        result = run(get, attempt_with(allow=f"[::1]:{site.port}"), site.url)
        # Then
        assert result["text"] == "six"
        assert site.requests[0].headers["host"] == f"[::1]:{site.port}"


class TestRedirects:
    @pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
    def test_a_redirect_is_followed(self, site: Any, fetch: Any, status: str) -> None:
        # Given
        site.answers["/"] = redirect_to("b/../c?d=1", status)
        site.answers["/c"] = answer(b"there")
        # When
        result = fetch()
        # Then
        assert result["text"] == "there"
        assert result["url"] == f"{site.url}/c?d=1"
        assert result["redirects"] == [f"{site.url}/"]

    def test_headers_may_be_in_no_encoding_at_all(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(b"", "302 F\xfc", "Location: /\xfc", "X: \xfc")
        site.answers["/%C3%BC"] = answer(b"there", "200 \xfc", "X: \xfc", "Content-Encoding: \xfc")
        result = fetch()
        assert (result["body"], result["reason"], result["headers"]["x"]) == (b"there", "ü", "ü")

    def test_headers_of_the_caller_stay_within_an_origin(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = redirect_to("/c")
        fetch(headers={"X-Api-Key": "k"})
        assert [request.headers.get("x-api-key") for request in site.requests] == ["k", "k"]

    def test_headers_of_the_caller_are_dropped_for_good_when_the_origin_changes(
        self, site: Any, sites: Any, run: Any
    ) -> None:
        # Given a redirect to another port and back again
        other = sites()
        site.answers["/"] = redirect_to(f"{other.url}/over")
        other.answers["/over"] = redirect_to(f"{site.url}/back")
        given = {"X-Api-Key": "k", "Authorization": "Bearer t", "Cookie": "c=1", "Accept": "a/b"}
        # When
        allow = f"127.0.0.1:{site.port} 127.0.0.1:{other.port}"
        run(get, attempt_with(allow=allow), f"{site.url}/", headers=given)
        # Then
        first, last = site.requests
        assert first.headers["x-api-key"] == "k"
        for request in (other.requests[0], last):
            assert request.headers["accept"] == "*/*"
            assert not {"x-api-key", "authorization", "cookie"} & set(request.headers)

    def test_a_cookie_of_one_answer_is_not_sent_with_the_next_request(
        self, site: Any, fetch: Any
    ) -> None:
        site.answers["/"] = answer(b"", "302 F", "Location: /b", "Set-Cookie: a=b; Path=/")
        fetch()
        assert "cookie" not in site.requests[1].headers

    def test_as_many_as_allowed_are_followed_and_no_more(self, site: Any, fetch: Any) -> None:
        # Given
        for number in range(6):
            site.answers[f"/{number}"] = redirect_to(f"/{number + 1}")
        site.answers["/6"] = answer(b"end")
        # When, then
        assert fetch("/1")["text"] == "end"
        assert fetch("/0", redirects=6)["text"] == "end"
        with pytest.raises(failures.TooManyRedirects, match="more than 5 redirects"):
            fetch("/0")

    def test_with_none_allowed_the_redirect_is_the_result(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = redirect_to("/c")
        result = fetch(redirects=0)
        assert (result["status"], result["headers"]["location"]) == (302, "/c")
        assert len(site.requests) == 1

    def test_a_redirect_without_a_location_is_a_result(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(b"lost", "302 Found")
        assert fetch()["status"] == 302

    def test_a_circle_is_told_from_a_long_way(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = redirect_to("/b")
        site.answers["/b"] = redirect_to("/")
        with pytest.raises(failures.RedirectLoop, match="circle"):
            fetch()
        assert len(site.requests) == 2

    @pytest.mark.parametrize(
        "location", ["http://[", "http://u:secret@127.0.0.1/", "x:y", "http://a..b/"]
    )
    def test_a_redirect_to_no_url_is_the_servers_failure(
        self, site: Any, fetch: Any, location: str
    ) -> None:
        site.answers["/"] = redirect_to(location)
        with pytest.raises(failures.OutgoingError) as caught:
            fetch()
        assert type(caught.value) is failures.ProtocolFailed
        assert "secret" not in str(caught.value)

    def test_the_body_of_a_redirect_is_not_read(self, site: Any, fetch: Any) -> None:
        # Given a redirect whose body never ends
        def endless(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 302 F\r\nLocation: /b\r\n\r\n")
            with contextlib.suppress(OSError):
                while True:
                    connection.sendall(bytes(65536))

        site.answers["/"] = endless
        site.answers["/b"] = answer(b"there")
        # When, then
        assert fetch()["text"] == "there"
        site.wait_for_the_end_of_all_connections()


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "127.0.0.1.", "127.1", "127.0.1", "127.127.127.127", "2130706433",
            "017700000001", "0177.0.0.1", "0177.0.0.01", "00000177.0.0.1", "0x7f000001",
            "0x7F.0x0.0x0.0x1", "0x7f.1", "0x7f.0.0.0x1", "127.0.0.0x1", "127.0.0.01", "0",
            "0.0.0.0", "0x0", "127.0.0.1%2e", "127%2e0.0.1", "%31%32%37.0.0.1", "①②⑦.⓪.⓪.①",
            "１２７.０.０.１", "127。0。0。1", "127．0．0．1", "１２７.１", "127\u00ad.0.0.1",
            "٠x7f.1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::0001]", "[::]", "[::ffff:127.0.0.1]",
            "[::FFFF:7F00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::127.0.0.1]", "[::7f00:1]",
            "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]",
            "[2002:7f00:0001::1]", "[2001:0:7f00:1::80ff:fffe]", "[fec0::1]", "[fe80::1]",
            "[fe80::1%25lo]", "[fc00::1]", "[ff02::1]", "[::ffff:0:127.0.0.1]", "localhost",
            "LOCALHOST", "localhost.", "ｌｏｃａｌｈｏｓｔ", "loc\u00adalhost", "u@127.0.0.1",
            "example.org@127.0.0.1", "example.org:80@127.0.0.1", "example.org%00@127.0.0.1",
            "127.0.0.1\\@example.org", "127.0.0.1 ", " 127.0.0.1", "127.0.0.1\t", "127.0.0.1\x00",
            "127.0.0.1:80:", "10.0.0.1", "169.254.169.254", "[fd00:ec2::254]", "168.63.129.16",
            "100.100.100.200", "224.0.0.1", "255.255.255.255",
        ],
    )  # fmt: skip
    def test_no_spelling_of_a_closed_address_is_connected_to(
        self, run: Any, untouchable: Any, host: str
    ) -> None:
        # Given a server on loopback whose port is open for public addresses
        attempt = attempt_with(ports=str(untouchable.port))
        # When, then
        with pytest.raises((failures.AddressRefused, failures.InvalidURL)):
            run(get, attempt, f"http://{host}:{untouchable.port}/", timeout=5)

    def test_a_refused_address_always_gives_the_same_message(self, run: Any) -> None:
        messages = set()
        for host in (
            "127.0.0.1", "10.0.0.1", "127.1", "169.254.169.254", "[::1]", "localhost",
            "127.0.0.1:6379", "localhost:22", "public.example:22",
        ):  # fmt: skip
            with pytest.raises(failures.AddressRefused) as caught:
                run(get, attempt_with(), f"http://{host}/path/{len(host)}")
            messages.add(str(caught.value))
        assert messages == {failures.ADDRESS_REFUSED}

    @pytest.mark.parametrize(
        ("url", "error"),
        [
            ("ftp://example.org/", failures.SchemeRefused),
            ("gopher://127.0.0.1:70/", failures.SchemeRefused),
            ("file://localhost/etc/passwd", failures.SchemeRefused),
            ("file:///etc/passwd", failures.SchemeRefused),
            ("http:///path", failures.InvalidURL),
            ("http://example.org:22/", failures.PortRefused),
            ("https://example.org:8443/", failures.PortRefused),
            ("http://user:S3CRET@example.org/", failures.InvalidURL),
            ("not a url", failures.InvalidURL),
        ],
    )
    def test_a_wrong_url_has_a_failure_of_its_own(
        self, run: Any, url: str, error: type[Exception]
    ) -> None:
        with pytest.raises(error) as caught:
            run(get, attempt_with(), url)
        assert type(caught.value) is error
        assert "S3CRET" not in str(caught.value)

    def test_a_redirect_to_loopback_is_refused(
        self, site: Any, fetch: Any, untouchable: Any
    ) -> None:
        site.answers["/"] = redirect_to(f"{untouchable.url}/")
        with pytest.raises(failures.AddressRefused):
            fetch(settings={"ports": f"80 443 {untouchable.port}"})

    @pytest.mark.parametrize("hops", [1, 4])
    def test_the_last_of_a_chain_of_redirects_is_checked_like_the_first(
        self, site: Any, fetch: Any, untouchable: Any, hops: int
    ) -> None:
        # Given
        for hop in range(hops):
            site.answers[f"/{hop}"] = redirect_to(f"/{hop + 1}", "301 M")
        site.answers[f"/{hops}"] = redirect_to(f"http://localhost:{untouchable.port}/", "307 T")
        # When, then
        with pytest.raises(failures.AddressRefused):
            fetch("/0", settings={"ports": str(untouchable.port)})

    @pytest.mark.parametrize("elsewhere", ["gopher://127.0.0.1/", "file:///etc/passwd"])
    def test_a_redirect_to_another_scheme_is_refused(
        self, site: Any, fetch: Any, elsewhere: str
    ) -> None:
        site.answers["/"] = redirect_to(elsewhere)
        with pytest.raises(failures.SchemeRefused) as caught:
            fetch()
        # Then nothing of what it says looks like a secret
        scheme = elsewhere.partition(":")[0]
        assert shown(str(caught.value)).startswith(f"{elsewhere} has the scheme {scheme!r}, ")

    def test_every_address_of_a_name_must_be_open(
        self, fetch_by_name: Any, names: Any, untouchable: Any
    ) -> None:
        # Given a name with a public address first and loopback second
        rules = OutgoingRules(ports=(untouchable.port,))
        for answers in (["93.184.216.34", "127.0.0.1"], ["2a00::1", "::ffff:127.0.0.1"]):
            known = names(evil_test=[answers])
            # When, then
            with pytest.raises(failures.AddressRefused):
                fetch_by_name(f"http://evil.test:{untouchable.port}/", known, rules)

    def test_a_name_is_resolved_once_so_that_it_cannot_change_its_mind(
        self, fetch_by_name: Any, names: Any, sites: Any, site: Any
    ) -> None:
        # Given a name whose second look-up gives an address that is not open
        open_site = sites(address="127.0.0.2", port_wanted=site.port)
        open_site.answers["/"] = answer(b"good")
        rules = OutgoingRules(allow=(f"127.0.0.2:{site.port}",))
        known = names(rebinding_test=[["127.0.0.2"], ["127.0.0.1"]])
        # When
        result = fetch_by_name(f"http://rebinding.test:{site.port}/", known, rules)
        # Then the checked address was connected to, with the name as Host
        assert result["text"] == "good"
        assert known.asked == ["rebinding.test"]
        assert open_site.requests[0].headers["host"] == f"rebinding.test:{site.port}"
        assert site.accepted == 0

    def test_a_name_is_resolved_and_checked_again_for_each_redirect(
        self, fetch_by_name: Any, names: Any, sites: Any, site: Any
    ) -> None:
        # Given a redirect to the same name, which now leads to loopback
        open_site = sites(address="127.0.0.2", port_wanted=site.port)
        open_site.answers["/"] = redirect_to("/again")
        rules = OutgoingRules(allow=(f"127.0.0.2:{site.port}",))
        known = names(rebinding_test=[["127.0.0.2"], ["127.0.0.1"]])
        # When, then
        with pytest.raises(failures.AddressRefused):
            fetch_by_name(f"http://rebinding.test:{site.port}/", known, rules)
        assert known.asked == ["rebinding.test", "rebinding.test"]
        assert site.accepted == 0

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
    def test_proxies_of_the_environment_are_ignored(
        self, site: Any, fetch: Any, untouchable: Any, monkeypatch: Any, variable: str
    ) -> None:
        monkeypatch.setenv(variable, untouchable.url)
        site.answers["/"] = answer(b"direct")
        assert fetch()["text"] == "direct"


class TestWhatGoesWrong:
    def test_a_name_without_address(self, fetch_by_name: Any, names: Any) -> None:
        with pytest.raises(failures.NameNotFound, match=r"no\.where"):
            fetch_by_name("http://no.where/", names(no_where=[[]]), OutgoingRules())

    def test_a_name_that_the_system_does_not_know(self, run: Any) -> None:
        with pytest.raises(failures.NameNotFound, match="nowhere.invalid"):
            run(get, attempt_with(), "http://nowhere.invalid/")

    def test_a_port_where_nothing_listens(self, run: Any, sites: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as unused:
            port = unused.getsockname()[1]
        with pytest.raises(failures.ConnectionRefused, match=f"refuses connections on port {port}"):
            run(get, attempt_with(allow=f"127.0.0.1:{port}"), f"http://127.0.0.1:{port}/x?k=S3CRET")

    def test_the_next_address_is_tried_when_one_does_not_answer(
        self, fetch_by_name: Any, names: Any, site: Any
    ) -> None:
        # Given a name of two addresses, nobody listening at the first
        site.answers["/"] = answer(b"second")
        rules = OutgoingRules(allow=(f"127.0.0.0/8:{site.port}",))
        known = names(two_test=[["127.0.0.3", "127.0.0.1"]])
        # When, then
        assert fetch_by_name(f"http://two.test:{site.port}/", known, rules)["text"] == "second"

    @pytest.mark.parametrize(
        "said",
        [
            b"",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/1.1 two hundred\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntoo short",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: magic\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            b"HTTP/1.1 200 OK\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nbad",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
            + gzip.compress(b"hello" * 99, mtime=0)[:-5],
        ],
    )
    def test_what_is_no_complete_answer(self, site: Any, fetch: Any, said: bytes) -> None:
        site.answers["/"] = said
        with pytest.raises(failures.OutgoingError) as caught:
            fetch("/?k=S3CRET")
        assert type(caught.value) is failures.ProtocolFailed
        assert str(caught.value).startswith(f"{site.url}/?…: ")

    def test_a_connection_that_is_reset(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = reset
        with pytest.raises(failures.ProtocolFailed):
            fetch()

    def test_an_answer_as_large_as_allowed_and_one_byte_larger(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(b"x" * 1000, "200 OK", "Content-Type: text/plain")
        assert fetch(max_bytes=1000)["size"] == 1000
        with pytest.raises(failures.TooLarge, match="larger than 999 bytes"):
            fetch(max_bytes=999)

    def test_an_endless_answer_is_cut(self, site: Any, fetch: Any) -> None:
        # Given
        def endless(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(bytes(65536))

        site.answers["/"] = endless
        # When, then
        with pytest.raises(failures.TooLarge):
            fetch()
        site.wait_for_the_end_of_all_connections()

    def test_a_gzip_bomb_is_cut_at_the_limit(self, site: Any, fetch: Any) -> None:
        bomb = gzip.compress(bytes(50_000_000))
        assert len(bomb) < 50_000
        site.answers["/"] = answer(bomb, "200 OK", "Content-Encoding: gzip")
        with pytest.raises(failures.TooLarge, match="1,000,000 bytes"):
            fetch()

    @pytest.mark.parametrize("line", [b"X-A: b\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
    def test_endless_headers_are_cut(self, site: Any, fetch: Any, line: bytes) -> None:
        # Given
        def endless(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\n" if line.startswith(b"X") else b"")
            while True:
                connection.sendall(line * 1000)

        site.answers["/"] = endless
        # When, then
        with pytest.raises(failures.TooLarge, match="headers are larger"):
            fetch()
        site.wait_for_the_end_of_all_connections()

    @pytest.mark.parametrize(
        "say",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nContent-Le",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel",
            redirect_to("/"),
        ],
        ids=["nothing", "half a head", "half a body", "redirects"],
    )
    def test_the_time_is_for_everything_together(self, site: Any, fetch: Any, say: bytes) -> None:
        # Given a server that stops in the midst, redirects to such a one included
        def stop(connection: socket.socket) -> None:
            connection.sendall(say)
            silence(connection)

        def after_a_redirect(connection: socket.socket) -> None:
            connection.sendall(redirect_to("/stop"))

        site.answers["/"] = after_a_redirect
        site.answers["/stop"] = stop if b"Location" not in say else silence
        # When, then
        with pytest.raises(failures.TimedOut, match=r"within 0\.3 s"):
            fetch("/", timeout=0.3)
        site.wait_for_the_end_of_all_connections()

    def test_a_resolver_that_does_not_answer_is_waited_for_within_the_time(
        self, fetch_by_name: Any
    ) -> None:
        class Silent:
            def resolveHostName(self, receiver: Any, *args: Any) -> None:
                receiver.resolutionBegan(self)

        with pytest.raises(failures.TimedOut):
            fetch_by_name("http://x.test/", Silent(), OutgoingRules(), timeout=0.05)

    @pytest.mark.parametrize("path", ["/silent", "/half"])
    def test_cancelling_closes_the_connection_at_once(
        self, site: Any, run: Any, reactor: Any, path: str
    ) -> None:
        # Given a call that waits for a server
        def half(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel")
            silence(connection)

        site.answers.update({"/silent": silence, "/half": half})
        begun: list[Deferred[Any]] = []
        ended: list[Any] = []
        done = threading.Event()

        def begin() -> None:
            attempt = attempt_with(allow=f"127.0.0.1:{site.port}")
            begun.append(get(attempt, site.url + path))
            begun[0].addBoth(ended.append).addBoth(lambda _: done.set())

        run(begin)
        site.wait_until(lambda: len(site.requests) == 1)
        # When
        run(begun[0].cancel)
        # Then
        assert done.wait(5)
        assert ended[0].check(CancelledError)
        site.wait_for_the_end_of_all_connections()

    def test_cancelling_while_a_name_is_looked_up_ends_the_call(
        self, run: Any, reactor: Any
    ) -> None:
        # Given a resolver that answers only after the call was cancelled
        waiting: list[Any] = []

        class Late:
            def resolveHostName(self, receiver: Any, *args: Any) -> None:
                waiting.append(receiver)

        def cancelled() -> Any:
            outgoing = Outgoing(reactor, OutgoingRules(), Late())
            fetching = Fetch(target=parse("http://x.test/")).start(reactor, outgoing)
            fetching.cancel()
            waiting[0].resolutionComplete()
            return fetching

        # When, then
        with pytest.raises(CancelledError):
            run(cancelled)


class TestTLS:
    @pytest.fixture
    def secure(
        self, sites: Any, certificates: Any, fetch_by_name: Any, names: Any
    ) -> Callable[..., Any]:
        """Ask a TLS server that calls itself ``good.test`` by some name."""

        def secure(name: str = "good.test", *, trusted: bool = True, expired: bool = False) -> Any:
            made = certificates("good.test", expired=expired)
            site = sites(context=made.server)
            site.answers["/"] = answer(b"secret")
            known = names(**{name.replace(".", "_"): [["127.0.0.1"]]})
            rules = OutgoingRules(allow=(f"127.0.0.1:{site.port}",))
            ca_file = made.ca_file if trusted else None
            try:
                return fetch_by_name(f"https://{name}:{site.port}/", known, rules, ca_file=ca_file)
            except failures.TLSFailed:
                assert site.requests == []
                raise

        return secure

    def test_a_trusted_server_of_the_right_name_is_asked(self, secure: Any) -> None:
        assert secure()["text"] == "secret"

    def test_a_certificate_of_another_name_is_refused(self, secure: Any) -> None:
        with pytest.raises(failures.TLSFailed, match="another host"):
            secure("other.test")

    def test_a_certificate_of_an_unknown_authority_is_refused(self, secure: Any) -> None:
        with pytest.raises(failures.TLSFailed, match="not trusted"):
            secure(trusted=False)

    def test_an_expired_certificate_is_refused(self, secure: Any) -> None:
        with pytest.raises(failures.TLSFailed, match="dates"):
            secure(expired=True)

    def test_an_address_can_be_certified_too(self, sites: Any, certificates: Any, run: Any) -> None:
        # Given
        made = certificates(addresses=["127.0.0.1"])
        site = sites(context=made.server)
        site.answers["/"] = answer(b"secret")
        attempt = attempt_with(allow=f"127.0.0.1:{site.port}", ca_file=made.ca_file)
        # When, then
        assert run(get, attempt, site.url)["text"] == "secret"

    def test_a_server_without_tls_is_a_tls_failure(self, sites: Any, run: Any) -> None:
        site = sites(greeting=answer(b"plain"))
        attempt = attempt_with(allow=f"127.0.0.1:{site.port}")
        with pytest.raises(failures.TLSFailed, match="no TLS connection"):
            run(get, attempt, f"https://127.0.0.1:{site.port}/")

    def test_a_silent_tls_server_is_left_in_time(
        self, sites: Any, certificates: Any, run: Any
    ) -> None:
        # Given a server that never says goodbye
        made = certificates(addresses=["127.0.0.1"])
        site = sites(context=made.server)
        site.answers["/"] = silence
        attempt = attempt_with(allow=f"127.0.0.1:{site.port}", ca_file=made.ca_file)
        # When, then
        with pytest.raises(failures.TimedOut):
            run(get, attempt, site.url, timeout=0.3)
        site.wait_for_the_end_of_all_connections()

    def test_going_from_https_to_http_drops_the_callers_headers(
        self, sites: Any, site: Any, certificates: Any, run: Any
    ) -> None:
        # Given
        made = certificates(addresses=["127.0.0.1"])
        secure = sites(context=made.server)
        secure.answers["/"] = redirect_to(site.url)
        allow = f"127.0.0.1:{secure.port} 127.0.0.1:{site.port}"
        attempt = attempt_with(allow=allow, ca_file=made.ca_file)
        # When
        run(get, attempt, secure.url, headers={"Authorization": "Bearer t"})
        # Then
        assert secure.requests[0].headers["authorization"] == "Bearer t"
        assert "authorization" not in site.requests[0].headers

    @pytest.mark.parametrize(
        "content", [None, b"no certificate", b"-----BEGIN CERTIFICATE-----\nx"]
    )
    def test_authorities_that_cannot_be_read_are_the_operators_error(
        self, run: Any, tmp_path: Any, content: bytes | None
    ) -> None:
        # Given
        ca_file = tmp_path / "ca.pem"
        if content is not None:
            ca_file.write_bytes(content)
        attempt = attempt_with(allow="127.0.0.1:443", ca_file=str(ca_file))
        # When, then
        with pytest.raises(ConfigurationError, match="ca_file"):
            run(get, attempt, "https://127.0.0.1/")


class TestArguments:
    @pytest.mark.parametrize(
        "headers",
        [
            {"X-A": "b\r\nX-C: d"}, {"X-A": "b\n"}, {"X-A": "b\0"}, {"X-A": "b\rc"},
            {"X-A": "\x7f"},
            {"X-A\r\nX-B": "c"}, {"X A": "b"}, {"": "b"}, {"X-Ä": "b"}, {"X-A": "ä"}, {"X-A": 1},
            {"X-A": ["b"]}, {"X-A": Secret("b\n")}, {"X-A": Secret(b"b")}, {1: "b"},
            [("X-A", "b")], "X-A: b", {"Host": "localhost"},
            {"host": "x"}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "3"},
            {"Connection": "keep-alive"}, {"Accept-Encoding": "br"}, {"Upgrade": "h2c"},
        ],
    )  # fmt: skip
    def test_a_header_that_cannot_be_sent_as_it_is_is_refused(self, run: Any, headers: Any) -> None:
        with pytest.raises(failures.InvalidHeader):
            run(get, attempt_with(), "http://example.org/", headers=headers)

    def test_the_value_of_a_bad_header_is_not_in_the_message(self, run: Any) -> None:
        with pytest.raises(failures.InvalidHeader) as caught:
            run(get, attempt_with(), "http://x/", headers={"Authorization": "S3CRET\n"})
        assert "S3CRET" not in str(caught.value)

    @pytest.mark.parametrize(
        "kwargs",
        [
            {"timeout": 0}, {"timeout": -1}, {"timeout": "30"}, {"timeout": 1e9}, {"timeout": None},
            {"timeout": float("nan")}, {"timeout": True}, {"timeout": timedelta(0)},
            {"max_bytes": 0}, {"max_bytes": 1_000_001}, {"max_bytes": 1.5}, {"max_bytes": "1"},
            {"redirects": -1}, {"redirects": 21}, {"redirects": None}, {"as_bytes": 1},
        ],
    )  # fmt: skip
    def test_an_argument_out_of_its_bounds_is_refused_by_name(
        self, run: Any, kwargs: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidArguments) as caught:
            run(get, attempt_with(), "http://example.org/", **kwargs)
        name = next(iter(kwargs))
        assert str(caught.value).startswith(name)
        assert caught.value.path == f"kwargs[{name!r}]"

    def test_the_time_may_be_a_timedelta(self, site: Any, fetch: Any) -> None:
        assert fetch(timeout=timedelta(seconds=5))["status"] == 404

    def test_the_operator_sets_the_largest_size(self, site: Any, fetch: Any) -> None:
        site.answers["/"] = answer(b"x" * 2000)
        with pytest.raises(failures.TooLarge, match="1,000 bytes"):
            fetch(settings={"max_bytes": "1000"})
        with pytest.raises(InvalidArguments, match="1,000"):
            fetch(settings={"max_bytes": "1000"}, max_bytes=1001)
        assert fetch(settings={"max_bytes": "3000000"}, max_bytes=2_500_000)["size"] == 2000

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"alow": "127.0.0.1"}, "alow"),
            ({"max_bytes": "many"}, "many"),
            ({"max_bytes": "0"}, "0"),
            ({"user_agent": "a\nb"}, "user_agent"),
            ({"allow": "nowhere"}, "nowhere"),
        ],
    )
    def test_options_of_the_operator_are_refused_by_name(
        self, run: Any, settings: dict[str, str], said: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=said):
            run(get, attempt_with(**settings), "http://example.org/")


def test_the_light_declaration_says_what_the_function_says() -> None:
    light, heavy = bundled.http_get, get.declaration  # type: ignore[attr-defined]
    assert light.parameters == parameters_of(get)
    assert (light.name, light.runs, light.timeout) == (heavy.name, heavy.runs, heavy.timeout)
    assert light.load() is get
    assert not light.expressions
    assert list(signature(get).parameters)[0] == "attempt"


def test_every_failure_is_in_the_tree_of_this_package() -> None:
    from wsgi_zasync.errors import ZasyncError

    found = [value for value in vars(failures).values() if isinstance(value, type)]
    assert len(found) == 16
    for error in found:
        assert issubclass(error, ZasyncError)
        assert error.__doc__
