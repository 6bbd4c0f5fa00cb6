# SPDX-License-Identifier: ZPL-2.1
"""T18: nothing changes without a proof of where a request comes from, and that it is meant."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest
from webob import Request
from ZODB import DB
from ZODB.FileStorage import FileStorage

from wsgi_zasync import ConfigurationError, Principal
from wsgi_zasync.middleware import CallManagerMiddleware
from wsgi_zasync.sealing import Keys
from wsgi_zasync.testing import FakeClock, calls_of, deployment_of, memory_db, run_calls
from wsgi_zasync.web.csrf import is_token, make_token
from wsgi_zasync.worker import Worker

PLUGINS = {"echo": lambda attempt, value=None: value}
ANN = Principal("ann")
SECRET = "the-secret-of-this-site-is-32-bytes-long"

HERE = {"Origin": "http://localhost"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
JSON = {"Content-Type": "application/json"}
PROGRAM = {**JSON, "X-Zasync": "1"}

#: The requests that change something, by what they are sent to.
UNSAFE = [
    ("DELETE", "", "waiting"),
    ("POST", "/cancel", "waiting"),
    ("POST", "/forget", "ended"),
    ("POST", "/retry", "failed callback"),
]


class Site:
    """Ann's calls, and requests that say that they are hers."""

    def __init__(self):
        self.db = memory_db()
        self.clock = FakeClock()
        self.deployment = deployment_of(PLUGINS, clock=self.clock)
        self.application = CallManagerMiddleware(
            lambda *_: [], self.db, plugins=PLUGINS, secret=SECRET, clock=self.clock
        )
        self.keys = Keys((SECRET.encode(),))
        self.ids = {}
        for kind in ("ended", "failed callback", "waiting"):
            with calls_of(self.db, "ann", self.deployment) as calls:
                call = calls.put("echo", 1)
                if kind == "failed callback":
                    call.on_success("result/missing")
                self.ids[kind] = call.id
            if kind == "failed callback":
                run_calls(self.db, PLUGINS, clock=self.clock, secret=SECRET)

    def token(self, principal=ANN, purpose="change", keys=None, age=0):
        when = self.clock.now() - timedelta(hours=age)
        return make_token(keys or self.keys, principal, purpose, when)

    def ask(self, method, tail, kind, headers=(), body=b"", query=""):
        path = f"/_zasync/calls/{self.ids[kind]}{tail}{query}"
        request = Request.blank(path, method=method, headers=headers, body=body, remote_user="ann")
        return request.get_response(self.application)


@pytest.fixture
def site():
    made = Site()
    yield made
    made.db.close()


def with_token(token):
    return {**HERE, **FORM, "X-Zasync-Token": token}


OTHER_KEYS = Keys((b"the secret of another site, 32 b.",))

#: Requests that may have been made by a page of another site, or were not meant.
FORGED = {
    "nothing": lambda site: ({}, b""),
    "no token": lambda site: ({**HERE, **FORM}, b""),
    "an empty token": lambda site: (with_token(""), b""),
    "another user's token": lambda site: (with_token(site.token(Principal("bob"))), b""),
    "a token of the id in another source": lambda site: (
        with_token(site.token(Principal("ann", "members"))),
        b"",
    ),
    "a token of another purpose": lambda site: (with_token(site.token(purpose="cookie")), b""),
    "a token of another site": lambda site: (with_token(site.token(keys=OTHER_KEYS)), b""),
    "a token of two hours ago": lambda site: (with_token(site.token(age=2)), b""),
    "another user's token in a form": lambda site: (
        {**HERE, **FORM},
        b"zasync_token=" + site.token(Principal("bob")).encode(),
    ),
    "a token in the query only": lambda site: ({**HERE, **FORM}, b""),
    "a token in a form of several parts": lambda site: (
        {**HERE, "Content-Type": "multipart/form-data; boundary=x"},
        b'--x\r\nContent-Disposition: form-data; name="zasync_token"\r\n\r\n'
        + site.token().encode()
        + b"\r\n--x--\r\n",
    ),
    "a form's token sent as text": lambda site: (
        {**HERE, "Content-Type": "text/plain"},
        b"zasync_token=" + site.token().encode(),
    ),
    "JSON sent as text": lambda site: (
        {**HERE, "Content-Type": "text/plain", "X-Zasync": "1"},
        b"{}",
    ),
    "JSON without our header": lambda site: ({**HERE, **JSON}, b"{}"),
    "our header on a form": lambda site: ({**HERE, **FORM, "X-Zasync": "1"}, b"a=b"),
    "no origin": lambda site: (PROGRAM, b"{}"),
}
for _name, _origin in {
    "another site": "http://evil.org",
    "a site that begins alike": "http://localhost.evil.org",
    "another port": "http://localhost:8081",
    "another scheme": "https://localhost",
    "a sandboxed page": "null",
    "an empty origin": "",
}.items():
    FORGED[f"a program at {_name}"] = lambda site, o=_origin: ({**PROGRAM, "Origin": o}, b"{}")
    FORGED[f"our token at {_name}"] = lambda site, o=_origin: (
        {**with_token(site.token()), "Origin": o},
        b"",
    )
for _site in ("cross-site", "same-site", "none", "", "nonsense"):
    FORGED[f"Sec-Fetch-Site: {_site}"] = lambda site, s=_site: (
        {**PROGRAM, "Sec-Fetch-Site": s},
        b"{}",
    )
    FORGED[f"Sec-Fetch-Site: {_site}, our origin and token"] = lambda site, s=_site: (
        {**with_token(site.token()), "Sec-Fetch-Site": s},
        b"",
    )
FORGED["Sec-Fetch-Site: same-origin and nothing else"] = lambda site: (
    {"Sec-Fetch-Site": "same-origin"},
    b"",
)
FORGED["Sec-Fetch-Site: same-origin from another origin"] = lambda site: (
    {**PROGRAM, "Sec-Fetch-Site": "same-origin", "Origin": "http://evil.org"},
    b"{}",
)


@pytest.mark.parametrize("forged", FORGED)
@pytest.mark.parametrize(("method", "tail", "kind"), UNSAFE)
def test_a_forged_request_is_refused_and_changes_nothing(site, method, tail, kind, forged):
    headers, body = FORGED[forged](site)
    query = f"?zasync_token={site.token()}" if "query" in forged else ""
    last = site.db.lastTransaction()

    answer = site.ask(method, tail, kind, headers, body, query)

    assert answer.status_int == 403
    assert site.db.lastTransaction() == last


@pytest.mark.parametrize("age", [0, 1])
@pytest.mark.parametrize(("method", "tail", "kind"), UNSAFE)
@pytest.mark.parametrize("origin", [HERE, {"Sec-Fetch-Site": "same-origin"}])
@pytest.mark.parametrize("proof", ["token", "program"])
def test_the_same_request_with_both_proofs_is_done(site, method, tail, kind, origin, proof, age):
    meant = PROGRAM if proof == "program" else {**FORM, "X-Zasync-Token": site.token(age=age)}
    last = site.db.lastTransaction()

    answer = site.ask(method, tail, kind, {**origin, **meant})

    assert answer.status_int in (200, 204)
    assert site.db.lastTransaction() > last


@pytest.mark.parametrize("kind", ["waiting", "ended", "failed callback"])
def test_reading_changes_nothing_whatever_it_carries(site, kind):
    overrides = [
        {},
        {"X-HTTP-Method-Override": "DELETE"},
        {"X-Method-Override": "DELETE"},
        {"X-HTTP-Method": "DELETE"},
    ]
    queries = ["", "?_method=DELETE", "?method=DELETE", "?cancel=1", "?wait=0"]
    last = site.db.lastTransaction()

    for method, tail, more, query in product(
        ("GET", "HEAD", "OPTIONS"),
        ("", "/cancel", "/forget", "/retry", "/result"),
        overrides,
        queries,
    ):
        headers = {**HERE, **PROGRAM, **more}
        assert site.ask(method, tail, kind, headers, query=query).status_int < 500

    assert site.db.lastTransaction() == last


# -- the secret ------------------------------------------------------------------------------------


@pytest.mark.parametrize("uri", ["zeo://127.0.0.1:8100", "zeo:///var/site/zeo.sock"])
@pytest.mark.parametrize(
    "side", [lambda **s: CallManagerMiddleware(lambda *_: [], **s), lambda **s: Worker(**s)]
)
def test_two_processes_that_share_a_database_need_a_secret(uri, side):
    for _process in range(2):
        with pytest.raises(ConfigurationError, match="secret is missing"):
            side(zodb_uri=uri)


def test_a_file_of_one_process_has_a_secret_of_its_own(tmp_path):
    database = DB(FileStorage(str(tmp_path / "Data.fs")))
    application = CallManagerMiddleware(lambda *_: [], database, plugins=PLUGINS)
    request = Request.blank("/_zasync/calls", remote_user="ann")

    etag = request.get_response(application).headers["ETag"]
    database.close()

    kept = tmp_path / "Data.fs.zasync-secret"
    assert kept.stat().st_mode & 0o777 == 0o600
    secret = kept.read_bytes().strip()
    assert len(secret) >= 32
    assert secret not in (tmp_path / "Data.fs").read_bytes()
    assert secret.decode() not in etag


def test_an_older_secret_is_still_accepted_and_a_newer_one_signs():
    old, new = b"the old secret, of 32 bytes or more", b"the new secret, of 32 bytes or more"
    rotated = Keys((new, old))
    now = FakeClock().now()
    signed_before = make_token(Keys((old,)), ANN, "change", now)

    assert is_token(rotated, ANN, "change", signed_before, now)
    assert make_token(rotated, ANN, "change", now) == make_token(Keys((new,)), ANN, "change", now)
