# SPDX-License-Identifier: ZPL-2.1
"""Who a request is made by: a table of environs, and the order of the sources."""

from __future__ import annotations

import pytest

from wsgi_zasync import ConfigurationError, Principal
from wsgi_zasync.web.identity import TrustedHeader, identify


class Text(str):
    """Not exactly a str."""

    __slots__ = ()


def wsgi(text):
    """Text as a server hands it over: its UTF-8 bytes as latin-1."""
    return text.encode("utf-8").decode("latin-1")


def who(userid):
    return {"repoze.who.identity": {"repoze.who.userid": userid}}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        # REMOTE_USER
        ({}, None),
        ({"REMOTE_USER": "ann"}, "ann"),
        ({"REMOTE_USER": "ann@example.org"}, "ann@example.org"),
        ({"REMOTE_USER": "CORP\\ann"}, "CORP\\ann"),
        ({"REMOTE_USER": "Ann Lee"}, "Ann Lee"),
        ({"REMOTE_USER": "ANN"}, "ANN"),
        ({"REMOTE_USER": wsgi("ánn")}, "ánn"),
        ({"REMOTE_USER": wsgi("a\u0301nn")}, "a\u0301nn"),
        ({"REMOTE_USER": wsgi("Ωmega")}, "Ωmega"),
        ({"REMOTE_USER": "x" * 255}, "x" * 255),
        ({"REMOTE_USER": "role:editor"}, "role:editor"),
        # odd ones are nobody
        ({"REMOTE_USER": ""}, None),
        ({"REMOTE_USER": "-"}, None),
        ({"REMOTE_USER": "None"}, None),
        ({"REMOTE_USER": " None"}, None),
        ({"REMOTE_USER": "null"}, None),
        ({"REMOTE_USER": "(null)"}, None),
        ({"REMOTE_USER": "anonymous"}, None),
        ({"REMOTE_USER": "Anonymous"}, None),
        ({"REMOTE_USER": "AnonymousUser"}, None),
        ({"REMOTE_USER": "Anonymous User"}, None),
        ({"REMOTE_USER": " ann"}, None),
        ({"REMOTE_USER": "ann "}, None),
        ({"REMOTE_USER": "ann\n"}, None),
        ({"REMOTE_USER": "a\0nn"}, None),
        ({"REMOTE_USER": "a\x1bnn"}, None),
        ({"REMOTE_USER": wsgi("a\u2028nn")}, None),
        ({"REMOTE_USER": "x" * 256}, None),
        # bytes that are not UTF-8, and text that is no WSGI string
        ({"REMOTE_USER": "ánn"}, None),
        ({"REMOTE_USER": "Ωmega"}, None),
        ({"REMOTE_USER": "a\udc80"}, None),
        ({"REMOTE_USER": b"ann"}, None),
        ({"REMOTE_USER": Text("ann")}, None),
        ({"REMOTE_USER": 7}, None),
        ({"REMOTE_USER": None}, None),
        # headers of the client are none
        ({"HTTP_REMOTE_USER": "ann"}, None),
        ({"HTTP_X_REMOTE_USER": "ann"}, None),
        ({"HTTP_AUTHORIZATION": "Basic YW5uOg=="}, None),
        # repoze.who
        (who("ann"), "ann"),
        (who("ánn"), "ánn"),
        (who("ánn".encode()), "ánn"),
        (who(b"\xff"), None),
        (who(None), None),
        (who(7), None),
        (who("Anonymous User"), None),
        ({"repoze.who.identity": {}}, None),
        ({**who("ann"), "REMOTE_USER": "bob"}, "ann"),
        ({**who(None), "REMOTE_USER": "bob"}, None),
        ({"repoze.who.identity": "ann", "REMOTE_USER": "bob"}, "bob"),
        ({"repoze.who.identity": None, "REMOTE_USER": "bob"}, "bob"),
    ],
)
def test_an_environ_names_one_principal_or_nobody(environ, expected):
    found = identify(environ)

    assert (None if found is None else found.owner) == (
        None if expected is None else ("", expected)
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("ann", ("", "ann")),
        (Principal("ann"), ("", "ann")),
        (Principal("ann", source="members"), ("members", "ann")),
        (None, None),
        ("", None),
        ("None", None),
        (" ann", None),
        (Principal("Anonymous User", source="acl_users"), None),
    ],
)
def test_a_configured_identity_is_final(answer, expected):
    found = identify({"REMOTE_USER": "bob", **who("carol")}, lambda environ: answer)

    assert (None if found is None else found.owner) == expected


def test_a_principal_of_identity_keeps_roles_and_title():
    given = Principal("ann", roles=("editor",), title="Ann")

    assert identify({}, lambda environ: given) is given


@pytest.mark.parametrize("answer", [7, b"ann", ("", "ann"), Text("ann"), object(), True])
def test_an_identity_that_returns_something_else_is_an_error(answer):
    with pytest.raises(ConfigurationError, match="identity must return"):
        identify({}, lambda environ: answer)


def test_an_identity_cannot_name_the_owner_of_a_session():
    with pytest.raises(ConfigurationError, match="session"):
        identify({}, lambda environ: Principal("abc", source="session"))


def test_an_exception_of_identity_is_not_anonymity():
    def identity(environ):
        raise ConnectionError("the directory is down")

    with pytest.raises(ConnectionError):
        identify({"REMOTE_USER": "bob"}, identity)


def test_the_same_id_of_two_sources_is_two_owners():
    one = identify({"REMOTE_USER": "ann"})
    other = identify({}, lambda environ: Principal("ann", source="members"))

    assert one is not None
    assert other is not None
    assert one.owner != other.owner


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HTTP_X_USER": "ann", "REMOTE_ADDR": "10.0.0.1"}, "ann"),
        ({"HTTP_X_USER": wsgi("ánn"), "REMOTE_ADDR": "10.0.0.1"}, "ánn"),
        ({"HTTP_X_USER": "ann", "REMOTE_ADDR": "10.0.0.2"}, None),
        ({"HTTP_X_USER": "ann"}, None),
        ({"HTTP_X_USER": "ann", "REMOTE_ADDR": "10.0.0.2", "REMOTE_USER": "bob"}, "bob"),
        ({"REMOTE_ADDR": "10.0.0.1", "REMOTE_USER": "bob"}, None),
    ],
)
def test_a_header_is_believed_from_trusted_proxies_only(environ, expected):
    header = TrustedHeader.of("X-User", ["10.0.0.1"])

    found = identify(environ, header=header)

    assert (None if found is None else found.id) == expected


def test_a_header_without_proxies_is_refused():
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        TrustedHeader.of("X-User", [])


def test_no_header_is_believed_where_none_is_configured():
    assert TrustedHeader.of(None, ["10.0.0.1"]) is None
