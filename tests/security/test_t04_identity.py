# SPDX-License-Identifier: ZPL-2.1
"""T4: who owns what is put, through the middleware, by what a request says."""

from __future__ import annotations

import io
from wsgiref.handlers import SimpleHandler

import pytest
from webob import Request
from ZODB import DB
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync import NotAuthenticated, Principal, get_manager
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.testing import calls_of, deployment_of


def application(environ, start_response):
    try:
        owner = get_manager(environ).put("echo").owner
        body = repr((owner.source, owner.id))
    except NotAuthenticated:
        body = "nobody"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode("utf-8")]


@pytest.fixture
def owner_of():
    databases = []

    def ask(environ, **settings):
        databases.append(DB(MappingStorage()))
        wrapped = CallManagerMiddleware(
            application, databases[-1], plugins={"echo": lambda attempt: 1}, **settings
        )
        request = Request.blank("/")
        request.environ.update(environ)
        return request.get_response(wrapped).body.decode()

    yield ask
    for database in databases:
        database.close()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"REMOTE_USER": ""},
        {"REMOTE_USER": " "},
        {"REMOTE_USER": "-"},
        {"REMOTE_USER": "None"},
        {"REMOTE_USER": " None"},
        {"REMOTE_USER": "Anonymous User"},
        {"REMOTE_USER": "anonymous"},
        {"REMOTE_USER": "ann "},
        {"REMOTE_USER": "ann\n"},
        {"REMOTE_USER": "ann\x00"},
        {"REMOTE_USER": "a" * 256},
        {"REMOTE_USER": "\xe1nn"},  # bytes that are not UTF-8
        {"REMOTE_USER": b"ann"},
        {"REMOTE_USER": 7},
        {"HTTP_REMOTE_USER": "ann"},
        {"HTTP_X_REMOTE_USER": "ann"},
        {"HTTP_X_FORWARDED_USER": "ann"},
        {"HTTP_AUTHORIZATION": "Basic YW5uOmFubg=="},
        {"HTTP_COOKIE": "__Host-zasync=ann; user=ann"},
        {"repoze.who.identity": {}, "REMOTE_USER": "ann"},
        {"repoze.who.identity": {"repoze.who.userid": None}, "REMOTE_USER": "ann"},
        {"repoze.who.identity": {"repoze.who.userid": "-"}},
        {"repoze.who.identity": {"repoze.who.userid": 7}},
    ],
)
def test_who_cannot_be_told_is_nobody(owner_of, environ):
    assert owner_of(environ) == "nobody"


@pytest.mark.parametrize(
    ("environ", "owner"),
    [
        ({"REMOTE_USER": "ann"}, ("", "ann")),
        ({"REMOTE_USER": "Ann"}, ("", "Ann")),
        ({"REMOTE_USER": "\xc3\xa1nn"}, ("", "ánn")),  # as WSGI carries UTF-8
        ({"REMOTE_USER": "role:editor"}, ("", "role:editor")),
        ({"REMOTE_USER": "members:ann"}, ("", "members:ann")),
        ({"REMOTE_USER": "session:ann"}, ("", "session:ann")),
        ({"REMOTE_USER": "bob", "HTTP_REMOTE_USER": "ann"}, ("", "bob")),
        ({"REMOTE_USER": "ann", "repoze.who.identity": "forged"}, ("", "ann")),
        ({"repoze.who.identity": {"repoze.who.userid": "bob"}, "REMOTE_USER": "ann"}, ("", "bob")),
    ],
)
def test_an_owner_is_the_exact_text_and_the_default_source(owner_of, environ, owner):
    assert owner_of(environ) == repr(owner)


@pytest.mark.parametrize("answer", [None, "", "-", " ann"])
def test_a_configured_identity_is_final(owner_of, answer):
    assert owner_of({"REMOTE_USER": "ann"}, identity=lambda environ: answer) == "nobody"


def test_an_identity_that_fails_is_no_anonymity(owner_of):
    def identity(environ):
        raise ConnectionError("the directory is down")

    with pytest.raises(ConnectionError):
        owner_of({"REMOTE_USER": "ann"}, identity=identity)


@pytest.mark.parametrize("path", ["/", "/_zasync/calls"])
def test_an_identity_that_fails_is_a_500_of_the_server(path):
    def identity(environ):
        raise ConnectionError("the directory is down")

    database = DB(MappingStorage())
    wrapped = CallManagerMiddleware(
        application, database, plugins={"echo": lambda attempt: 1}, identity=identity
    )
    environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "REMOTE_USER": "ann"}
    environ |= {"SERVER_NAME": "localhost", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.0"}
    output, errors = io.BytesIO(), io.StringIO()
    SimpleHandler(io.BytesIO(), output, errors, environ).run(wrapped)

    assert output.getvalue().splitlines()[0].split()[1] == b"500"
    assert "the directory is down" in errors.getvalue()
    with calls_of(database, "ann", deployment_of()) as calls:
        assert calls.count() == 0
    database.close()


def test_a_manager_of_the_server_is_replaced_and_a_string_is_none(owner_of):
    assert owner_of({"wsgi_zasync.manager": "forged", "REMOTE_USER": "bob"}) == "('', 'bob')"


def test_one_id_of_two_sources_is_two_owners(site):
    with site.calls(Principal("ann", "members")) as calls:
        theirs = calls.put("echo").id

    with site.calls("ann") as calls:
        assert theirs not in calls
        assert calls.mine() == []
        # And roles and permissions of the default source are not theirs.
    assert site.policy.allows(Principal("ann"), "edit", None)
    assert not site.policy.allows(Principal("ann", "members"), "edit", None)
