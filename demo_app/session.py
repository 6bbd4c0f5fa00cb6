# SPDX-License-Identifier: ZPL-2.1
"""Who is logged in: a signed cookie, read by a WSGI filter in front of everything else.

The filter leaves what the cookie says in the environ, where ``identity`` (which paste.ini gives
to the call manager's middleware) and the application find it. A client cannot write that key.

The demo has no passwords: this is where an application of yours has its own way to know people.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

from wsgi_zasync import ConfigurationError, Principal

#: The people of the demo.
USERS = {"ann": "Ann", "bob": "Bob"}

#: Browsers keep cookies by host, whatever the port: two demos at a time must not share one.
COOKIE = "shelf_session_{port}"
KEY_BYTES = 32

#: The key of the environ for the `Session`.
ENVIRON_KEY = "demo_app.session"


@dataclass(frozen=True)
class Session:
    """What the cookie says: a random number, and the user if one is logged in."""

    number: str
    user: str | None = None

    @property
    def title(self) -> str:
        return USERS[self.user] if self.user else ""


class Signer:
    """Signs sessions, and makes the tokens of forms."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def cookie(self, session: Session) -> str:
        """The cookie's value."""
        said = f"{session.number}.{session.user or ''}"
        return f"{said}.{self._mac('cookie', said)}"

    def session(self, cookie: str) -> Session | None:
        """The session of a cookie that we signed, else None."""
        said, _, mac = cookie.rpartition(".")
        if not hmac.compare_digest(self._mac("cookie", said), _ascii(mac)):
            return None
        number, _, user = said.partition(".")
        if user and user not in USERS:
            return None
        return Session(number, user or None)

    def token(self, session: Session) -> str:
        """What a form of this session carries, so that no other site can send it."""
        return self._mac("form", f"{session.number}.{session.user or ''}")

    def is_token(self, session: Session, token: str) -> bool:
        return hmac.compare_digest(self.token(session), _ascii(token))

    def _mac(self, purpose: str, text: str) -> str:
        said = f"{purpose}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, said, hashlib.sha256).hexdigest()


def _ascii(text: str) -> str:
    return text if text.isascii() else ""


def identify(environ: Mapping[str, Any]) -> Principal | None:
    """Who makes the request; named as ``identity`` in paste.ini."""
    session = environ.get(ENVIRON_KEY)
    if not isinstance(session, Session) or session.user is None:
        return None
    return Principal(session.user, title=session.title)


class SessionFilter:
    """Reads the cookie, and gives one to who has none."""

    def __init__(self, app: Callable[..., Iterable[bytes]], signer: Signer) -> None:
        self.app = app
        self._signer = signer

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        session = self._signer.session(_cookie(environ))
        is_new = session is None
        environ[ENVIRON_KEY] = session = session or Session(secrets.token_urlsafe(18))
        environ["demo_app.signer"] = self._signer
        if not is_new:
            return self.app(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Any:
            if any(kind.lower() == "text/html" for kind in _types(headers)):
                headers = [*headers, ("Set-Cookie", set_cookie(environ, self._signer, session))]
            return start_response(status, headers, *error)

        return self.app(environ, start)


def _cookie(environ: Mapping[str, Any]) -> str:
    try:
        found = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(_cookie_name(environ))
    except CookieError:
        return ""
    return "" if found is None else found.value


def _cookie_name(environ: Mapping[str, Any]) -> str:
    return COOKIE.format(port=environ["SERVER_PORT"])


def _types(headers: list[tuple[str, str]]) -> list[str]:
    return [v.partition(";")[0] for name, v in headers if name.lower() == "content-type"]


def set_cookie(environ: Mapping[str, Any], signer: Signer, session: Session) -> str:
    """The header that makes ``session`` the browser's."""
    secure = "; Secure" if environ.get("wsgi.url_scheme") == "https" else ""
    path = environ.get("SCRIPT_NAME") or "/"
    name = _cookie_name(environ)
    return f"{name}={signer.cookie(session)}; Path={path}; HttpOnly; SameSite=Lax{secure}"


def filter_app_factory(
    app: Callable[..., Iterable[bytes]], global_conf: Mapping[str, str], key_file: str
) -> SessionFilter:
    """``[filter:session]``: ``key_file`` is made (mode 0600) when it is not there."""
    return SessionFilter(app, Signer(_key(Path(key_file))))


def _key(path: Path) -> bytes:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            key = path.read_bytes()
        else:
            key = secrets.token_bytes(KEY_BYTES)
            with os.fdopen(descriptor, "wb") as file:
                file.write(key)
    except OSError as error:
        raise ConfigurationError(f"[filter:session] key_file {path}: {error.strerror}") from error
    if len(key) < KEY_BYTES:
        raise ConfigurationError(f"[filter:session] key_file {path} is too short: delete it")
    return key
