# SPDX-License-Identifier: ZPL-2.1
"""Which addresses and ports are open: a pure decision, by tables."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_zasync.errors import ConfigurationError
from wsgi_zasync.worker.plugins.addresses import (
    OutgoingRules,
    embedded_ipv4,
    is_public,
)
from wsgi_zasync.worker.plugins.failures import PortRefused, SchemeRefused

PUBLIC = [
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "126.255.255.255",
    "128.0.0.1", "169.253.1.1", "172.15.0.1", "172.32.0.1", "192.167.1.1", "223.255.255.254",
    "2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2001:4860:4860::8888",
    "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "::8.8.8.8",
]  # fmt: skip

CLOSED = [
    # this host, unspecified
    "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::", "::1",
    # private
    "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fc00::1",
    "fd12:3456::1",
    # between a provider and its customers
    "100.64.0.1", "100.127.255.255",
    # link-local and metadata services
    "169.254.0.1", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16",
    "192.0.0.192", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "febf::1",
    # special, documentation, benchmarks
    "192.0.0.1", "192.0.2.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
    "192.88.99.1", "2001:db8::1", "3fff::1", "100::1", "5f00::1", "2001::1", "2001:10::1",
    "2001:20::1",
    # multicast, reserved, broadcast
    "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "ff02::1", "ff0e::1",
    "4000::1", "e000::1",
    # site-local
    "fec0::1", "feff::1",
    # of one network card only, whatever the rest says
    "2606:4700:4700::1111%eth0",
    # IPv4 inside IPv6: mapped, compatible, NAT64 (well known, local use), 6to4, Teredo, ISATAP
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0.0.0.0",
    "::127.0.0.1", "::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::7f00:1", "64:ff9b:1::8.8.8.8", "2002:7f00:1::", "2002:a00:1::1",
    "2002:c0a8:101::1", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:80ff:fffe",
    "2001:0:7f00:1::1", "::ffff:0:127.0.0.1", "2a00:1450::5efe:127.0.0.1",
    "2a00:1450::200:5efe:10.0.0.1",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_open_on_the_usual_ports_only(address: str) -> None:
    rules = OutgoingRules()
    assert rules.allows(address, 80)
    assert rules.allows(address, 443)
    assert not rules.allows(address, 8080)
    assert not rules.allows(address, 22)


@pytest.mark.parametrize("address", CLOSED)
def test_an_address_that_is_not_for_everybody_is_closed(address: str) -> None:
    assert not OutgoingRules().allows(address, 80)
    assert not OutgoingRules(ports=(80, 443, 8080)).allows(address, 8080)


@pytest.mark.parametrize(
    "text", ["", "localhost", "127.1", "0x7f000001", "2130706433", "010.0.0.1", "1.1.1.1/32", "é"]
)
def test_what_is_no_literal_address_is_closed(text: str) -> None:
    assert not OutgoingRules(allow=("0.0.0.0/0:*", "[::/0]:*")).allows(text, 80)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_never_more_open_inside_ipv6_than_alone(number: int) -> None:
    inner = ipaddress.IPv4Address(number)
    for outer in (
        ipaddress.IPv6Address(number),
        ipaddress.IPv6Address((0xFFFF << 32) | number),
        ipaddress.IPv6Address((0x64FF9B << 96) | number),
        ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1),
    ):
        assert embedded_ipv4(outer) == inner
        assert is_public(outer) == is_public(inner)


@given(st.ip_addresses())
def test_no_address_is_public_that_python_calls_private_loopback_or_link_local(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if is_public(address) and (
        address.version == 4 or embedded_ipv4(address) is None  # type: ignore[arg-type]
    ):
        assert not address.is_private
        assert not address.is_loopback
        assert not address.is_link_local


def test_an_opening_opens_its_network_on_its_port_and_nothing_else() -> None:
    rules = OutgoingRules(allow=("127.0.0.1:8080",))
    assert rules.allows("127.0.0.1", 8080)
    assert rules.allows("::ffff:127.0.0.1", 8080)  # the same socket
    assert not rules.allows("127.0.0.1", 80)
    assert not rules.allows("127.0.0.2", 8080)
    assert not rules.allows("::1", 8080)
    assert not rules.allows("8.8.8.8", 8080)
    assert not rules.allows("64:ff9b::127.0.0.1", 8080)


def test_an_opening_without_port_opens_the_usual_ports_and_a_star_opens_all() -> None:
    rules = OutgoingRules(allow=("10.0.0.0/8", "[fd00::/8]:*", "192.168.0.0/16:*", "::1"))
    assert rules.allows("10.1.2.3", 443)
    assert not rules.allows("10.1.2.3", 8080)
    assert rules.allows("fd00::1", 6379)
    assert rules.allows("192.168.1.1", 1)
    assert rules.allows("::1", 80)
    assert not rules.allows("::1", 8080)


def test_settings_are_read_as_lists_and_other_keys_are_left_alone() -> None:
    rules = OutgoingRules.from_settings(
        {
            "allow": "127.0.0.1:8080  10.0.0.0/8:80,\n[::1]:8080",
            "ports": "80, 443 8443",
            "schemes": "https",
            "max_bytes": "17",
        }
    )
    assert rules == OutgoingRules(
        schemes=("https",),
        ports=(80, 443, 8443),
        allow=("127.0.0.1:8080", "10.0.0.0/8:80", "[::1]:8080"),
    )
    assert OutgoingRules.from_settings({}) == OutgoingRules()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"allow": "localhost:80"}, "localhost:80"),
        ({"allow": "10.0.0.1/8"}, "10.0.0.1/8"),
        ({"allow": "127.0.0.1:0"}, "127.0.0.1:0"),
        ({"allow": "127.0.0.1:65536"}, "127.0.0.1:65536"),
        ({"allow": "127.0.0.1:http"}, "127.0.0.1:http"),
        ({"allow": "[::1]8080"}, "[::1]8080"),
        ({"allow": "[::1"}, "[::1"),
        ({"ports": "eighty"}, "eighty"),
        ({"ports": "0"}, "'0'"),
        ({"schemes": "ftp"}, "ftp"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_by_name(
    settings: dict[str, str], said: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        OutgoingRules.from_settings(settings)
    assert said in str(caught.value)


def test_rules_made_in_code_are_checked_too() -> None:
    with pytest.raises(ConfigurationError, match="70000"):
        OutgoingRules(ports=(70000,))


def test_schemes_and_ports_are_refused_before_anything_is_looked_up() -> None:
    rules = OutgoingRules(schemes=("https",), allow=("10.0.0.1:8443",))
    rules.check("https", 443, "https://x")
    rules.check("https", 8443, "https://x:8443")
    with pytest.raises(SchemeRefused, match="http://x.*https"):
        rules.check("http", 80, "http://x")
    with pytest.raises(PortRefused, match="allow = ADDRESS:PORT"):
        rules.check("https", 22, "https://x:22")
