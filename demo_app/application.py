# SPDX-License-Identifier: ZPL-2.1
"""The web application: a few forms and one page.

Nothing here waits for anything. What takes time is put as a call, in the same transaction as
whatever else the request writes, and the answer goes out at once. If that transaction does not
commit, there is no call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from webob import Request, Response
from webob.exc import HTTPForbidden, HTTPNotFound, HTTPSeeOther
from webob.static import DirectoryApp

from wsgi_zasync import (
    CallManager,
    CallNotFinal,
    CallNotFound,
    DuplicateCall,
    QuotaExceeded,
    get_manager,
)

from . import pages
from .samples import Samples
from .session import ENVIRON_KEY, USERS, Session, Signer, set_cookie
from .shelf import Shelf, shelf_of

HERE = Path(__file__).parent

#: The longest address that is taken.
LONGEST_URL = 2000

#: How many calls the page shows.
SHOWN_CALLS = 12

#: The page, its style and its script come from here, and nothing else does.
HEADERS = {
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Application:
    """The shelf of links, as a WSGI application."""

    def __init__(self, samples: str = "http://127.0.0.1:8080") -> None:
        """``samples`` is where a worker finds this server's sample pages."""
        self._samples = Samples(samples.rstrip("/"))
        self._static = DirectoryApp(str(HERE / "static"), index_page=None)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        response: Iterable[bytes] = self._answer(request)(environ, start_response)
        return response

    def _answer(self, request: Request) -> Any:
        base: str = request.script_name
        first = request.path_info_peek()
        if first == "static":
            request.path_info_pop()
            response = request.get_response(self._static)
            if response.status_code < 400:
                return response
            # What the file server says of a file that is not there names its place on the disk.
            response = self._problem(base, HTTPNotFound())
            response.headers.update(HEADERS)
            return response
        if first == "samples":
            request.path_info_pop()
            return self._samples
        try:
            response = _Visit(request, self._samples).answer()
        except (HTTPNotFound, HTTPForbidden) as error:
            response = self._problem(base, error)
        except HTTPSeeOther as redirect:
            response = redirect
        response.headers.update(HEADERS)
        return response

    def _problem(self, base: str, error: HTTPNotFound | HTTPForbidden) -> Response:
        detail = error.detail or "There is no such page."
        text = pages.problem(base, error.title, detail)
        return Response(text, status=error.status)


class _Visit:
    """One request for a page or by a form."""

    def __init__(self, request: Request, samples: Samples) -> None:
        self._request = request
        self._samples = samples
        self._session: Session = request.environ[ENVIRON_KEY]
        self._signer: Signer = request.environ["demo_app.signer"]

    def answer(self) -> Response:
        match self._request.method, self._request.path_info.strip("/").split("/"):
            case (("GET" | "HEAD"), [""]):
                return self._page()
            case (("GET" | "HEAD"), ["login" | "logout" | "links" | "reports"]):
                # Where a form that was not taken has left the browser.
                raise self._go()
            case "POST", path:
                return self._posted(path)
        raise HTTPNotFound("There is no such page.")

    def _posted(self, path: list[str]) -> Response:
        token = self._request.POST.get("token", "")
        if not isinstance(token, str) or not self._signer.is_token(self._session, token):
            raise HTTPForbidden(
                "The form is not from this page, or too old, or your browser keeps no cookies. "
                "Go back and reload."
            )
        if path == ["login"]:
            return self._log_in()
        if self._session.user is None:
            raise self._go()
        match path:
            case ["logout"]:
                return self._become(None)
            case ["links"]:
                return self._add_link()
            case ["links", "remove"]:
                self._shelf().remove(self._request.POST.get("url", ""))
                raise self._go()
            case ["reports"]:
                return self._make_report()
            case ["calls", call_id, ("cancel" | "forget") as action]:
                return self._end_call(call_id, action)
        raise HTTPNotFound("There is no such page.")

    # -- who it is ----------------------------------------------------------------------------

    def _log_in(self) -> Response:
        user = self._request.POST.get("user")
        if user not in USERS:
            raise HTTPForbidden("There are Ann and Bob, and nobody else.")
        # What a callback expression may write to has to be in the database already.
        shelf_of(self._calls.root, user)
        return self._become(user)

    def _become(self, user: str | None) -> Response:
        response = self._go()
        session = Session(self._session.number, user)
        cookie = set_cookie(self._request.environ, self._signer, session)
        response.headers.add("Set-Cookie", cookie)
        return response

    @property
    def _calls(self) -> CallManager:
        return get_manager(self._request.environ)

    def _shelf(self) -> Shelf:
        assert self._session.user is not None
        return shelf_of(self._calls.root, self._session.user)

    # -- what takes time ----------------------------------------------------------------------

    def _add_link(self) -> Response:
        url = str(self._request.POST.get("url", "")).strip()
        if not _is_address(url):
            return self._page(said="address", status=422, typed=url)
        # The same address twice, by a double click, say, is one call while it is under way.
        key = hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()
        asking = self._calls.options(
            unique=key, on_duplicate="raise", title=url[:200], expires=3600
        )
        try:
            call = asking.put("shelf.fetch", url)
        except DuplicateCall:
            raise self._go("twice") from None
        except QuotaExceeded:
            return self._page(said="many", status=429, typed=url)
        # Evaluated in the worker, in the transaction that records the outcome, as the user who
        # is logged in here. The names are bound, and never written into the text.
        shelf = self._shelf()
        call.on_success("python: shelf.add(url, result, now)", shelf=shelf, url=url)
        call.on_failure("python: shelf.reject(url, failure.message, now)", shelf=shelf, url=url)
        raise self._go()

    def _make_report(self) -> Response:
        asking = self._calls.options(unique="report", on_duplicate="raise", title="of this shelf")
        try:
            asking.put("shelf.report", self._shelf())
        except DuplicateCall:
            raise self._go("twice") from None
        except QuotaExceeded:
            return self._page(said="many", status=429)
        raise self._go()

    def _end_call(self, call_id: str, action: str) -> Response:
        try:
            if action == "cancel":
                self._calls.cancel(call_id)
            else:
                self._calls.forget(call_id)
        except CallNotFound:
            raise HTTPNotFound("There is no such call of yours.") from None
        except CallNotFinal:
            raise self._go("open") from None
        raise self._go()

    # -- what is shown ------------------------------------------------------------------------

    def _go(self, said: str | None = None) -> HTTPSeeOther:
        location = f"{self._request.script_name}/"
        return HTTPSeeOther(location=location + (f"?said={said}" if said else ""))

    def _page(self, said: str | None = None, status: int = 200, typed: str = "") -> Response:
        request, session = self._request, self._session
        said = said or request.GET.get("said")
        token = self._signer.token(session)
        if session.user is None:
            text = pages.login(request.script_name, token, USERS)
        else:
            text = pages.shelf(
                base=request.script_name,
                token=token,
                session=session,
                shelf=self._shelf(),
                calls=self._calls.mine(limit=SHOWN_CALLS),
                samples=self._samples.addresses(),
                said=said,
                typed=typed,
            )
        return Response(text, status=status)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc) and len(url) <= LONGEST_URL


def app_factory(
    global_conf: Mapping[str, str], samples: str = "http://127.0.0.1:8080"
) -> Callable[..., Iterable[bytes]]:
    """``[app:shelf]``, for PasteDeploy."""
    return Application(samples)
