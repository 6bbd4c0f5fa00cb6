# SPDX-License-Identifier: ZPL-2.1
"""The user's side over HTTP: what has become of my calls, and stop this one.

Each request has a small transaction of its own, beside any other: one that only reads is always
aborted, one that changes something commits. Whose call it is is decided before anything else of
the request is looked at. A client that waits holds no connection and no transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar

from transaction.interfaces import TransientError
from webob import Request, Response

from ..clock import Clock
from ..deployment import Deployment
from ..errors import (
    CallIsFinal,
    CallNotFinal,
    CallNotFound,
    ConfigurationError,
    InvalidArguments,
    QuotaExceeded,
    Unauthorized,
    ZasyncError,
)
from ..expressions import CannotDecide
from ..manager.view import Call
from ..sealing import Keys
from ..security import Principal
from ..states import CallState
from ..store.wakeup import signal_for
from .answers import DOWNLOAD_HEADERS, answer, empty, encoded, not_found, problem
from .conditions import is_known, is_wanted, may_change
from .connection import Surroundings
from .csrf import TOKEN_FIELD, TOKEN_HEADER, is_programs, is_same_origin, is_token
from .parameters import BadParameter, limit, of_form, of_query, wait_seconds
from .visitor import AnotherVersion, Seen, SeenCall, Visitor
from .waiting import WaitingGate

logger = logging.getLogger(__name__)

#: What tokens of forms that change a call are made for.
CHANGE = "change"

#: A look at one call, or at a list.
_Seen = TypeVar("_Seen", bound=Seen)


class PollApplication:
    """Answers the addresses under the prefix."""

    def __init__(
        self, surroundings: Surroundings, deployment: Deployment, gate: WaitingGate, keys: Keys
    ) -> None:
        """Serve the calls of these surroundings."""
        self._surroundings = surroundings
        self._deployment = deployment
        self._gate = gate
        self._keys = keys

    def __call__(
        self,
        environ: dict[str, Any],
        start_response: Any,
        *,
        principal: Principal | None,
        base_path: str,
        path: str,
        may_wait: bool = True,
    ) -> Iterable[bytes]:
        """Answer one request.

        Args:
            environ: The request.
            start_response: As of WSGI.
            principal: Who makes it; None: nobody.
            base_path: What our links begin with.
            path: The rest of the path, beginning with a slash.
            may_wait: Whether the request holds no transaction of a host's, so that it may wait.
        """
        response = self._answered(
            Request(environ), principal, base_path, path.split("/")[1:], may_wait
        )
        body: Iterable[bytes] = response(environ, start_response)
        return body

    def _answered(
        self,
        request: Request,
        principal: Principal | None,
        base_path: str,
        segments: list[str],
        may_wait: bool,
    ) -> Response:
        if principal is None:
            return _not_logged_in() if segments == ["calls"] else not_found()
        visitor = Visitor(principal, base_path, self._surroundings, self._deployment, self._keys)
        gate = self._gate if may_wait else None
        poll = _Poll(request, visitor, gate, self._deployment.clock, self._keys)
        try:
            return poll.answered(segments)
        except Unauthorized:
            return not_found()
        except (CannotDecide, ConfigurationError) as exc:
            # Such as a process that no put has led to the host's database yet.
            logger.error("calls cannot be shown", exc_info=exc)
            return _not_now()
        except TransientError:
            return _not_now()


class _Poll:
    """One request of a user who is known."""

    def __init__(
        self,
        request: Request,
        visitor: Visitor,
        gate: WaitingGate | None,
        clock: Clock,
        keys: Keys,
    ) -> None:
        self._request = request
        self._visitor = visitor
        self._gate = gate
        self._clock = clock
        self._keys = keys

    def answered(self, segments: list[str]) -> Response:
        """The answer to a path of these segments."""
        match segments:
            case ["calls"]:
                return self._for_method({"GET": self._calls})
            case ["calls", call_id, *rest] if len(rest) <= 1:
                # Whose call it is comes first: before method, body and conditions.
                seen = self._visitor.look(call_id)
                methods = None if seen is None else self._methods(call_id, seen, *rest)
                if methods is not None:
                    return self._for_method(methods)
        return not_found()

    def _methods(
        self, call_id: str, seen: SeenCall, what: str | None = None
    ) -> dict[str, Callable[[], Response]] | None:
        """What can be done at an address of a call, by method; None: there is no such address."""
        if what is None:
            return {
                "GET": lambda: self._call(call_id, seen),
                "DELETE": lambda: self._change(call_id, Call.cancel),
            }
        if what == "result":
            return {"GET": lambda: self._result(seen)}
        if what in _CHANGES:
            return {"POST": lambda: self._change(call_id, _CHANGES[what])}
        return None

    def _for_method(self, methods: dict[str, Callable[[], Response]]) -> Response:
        method = self._request.method
        allowed = ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])
        if method == "OPTIONS":
            return empty(204, {"Allow": allowed})
        chosen = methods.get("GET" if method == "HEAD" else method)
        if chosen is None:
            return problem(405, "Not possible", f"Use one of {allowed}.", {"Allow": allowed})
        try:
            return chosen()
        except BadParameter as exc:
            return problem(400, "Bad request", str(exc))

    # -- reading -----------------------------------------------------------------------------

    def _calls(self) -> Response:
        state, after = of_query(self._request, "state"), of_query(self._request, "after")
        look = partial(self._visitor.listed, state, limit(self._request), after)
        try:
            seen = look()
            return self._shown(seen, look, partial(self._is_another_list, seen))
        except CallNotFound as exc:
            raise BadParameter.of("after", "the id of one of your calls") from exc
        except InvalidArguments as exc:
            raise BadParameter.of("state", "one of " + ", ".join(CallState)) from exc

    def _call(self, call_id: str, seen: SeenCall) -> Response:
        return self._shown(seen, partial(self._visitor.look, call_id), self._is_news)

    def _shown(
        self, seen: _Seen, look: Callable[[], _Seen | None], is_news: Callable[[_Seen], bool]
    ) -> Response:
        """What was seen; or, where the client wants to wait, what there is once it is news."""
        seconds, latest = wait_seconds(self._request), seen
        if seconds is not None:
            found = self._waited(seen, seconds, look, is_news)
            if found is None:
                return not_found()
            latest = found
        return self._conditional(latest.body, latest.etag, _come_again(latest))

    def _result(self, seen: SeenCall) -> Response:
        """The result as a download, or why there is none."""
        if seen.state is CallState.SUCCEEDED:
            body = encoded({"result": seen.shown["result"]})
            return self._conditional(body, self._visitor.etag(body), DOWNLOAD_HEADERS)
        if seen.is_final:
            detail = f"The call ended {seen.state}, and has no result."
        else:
            detail = "The call has not ended, so that it has no result yet."
        return problem(409, "No result", detail, _come_again(seen), state=str(seen.state))

    def _conditional(self, body: bytes, etag: str, headers: dict[str, str]) -> Response:
        if not is_wanted(self._request.headers, etag):
            return _another_version()
        headers = {**headers, "ETag": f'"{etag}"'}
        if self._is_known(etag):
            return empty(304, headers)
        return answer(body, headers=headers)

    def _knows_any(self) -> bool:
        """Whether the client says what it has already."""
        return "If-None-Match" in self._request.headers

    def _is_known(self, etag: str) -> bool:
        """Whether it has this."""
        return is_known(self._request.headers, etag)

    # -- waiting -----------------------------------------------------------------------------

    def _waited(
        self,
        seen: _Seen,
        seconds: float,
        look: Callable[[], _Seen | None],
        is_news: Callable[[_Seen], bool],
    ) -> _Seen | None:
        """What was seen; or what a look shows later, when it is news or time is up."""
        if self._gate is None or is_news(seen):
            return seen
        with self._gate.entered(self._visitor.principal.owner) as is_in:
            if not is_in:
                return seen
            until = self._clock.monotonic() + min(seconds, self._gate.longest_seconds)
            with signal_for(self._visitor.calls_database()).watch(*seen.oids) as watch:
                latest = look()
                while latest is not None and not is_news(latest):
                    if watch.widen(latest.oids):
                        # A worker that has come meanwhile, and may have begun a call since.
                        latest = look()
                        continue
                    left = until - self._clock.monotonic()
                    is_over = left <= 0 or not watch.wait(left)
                    latest = look()
                    if is_over:
                        break
        return latest

    def _is_news(self, seen: SeenCall) -> bool:
        return seen.is_final or (self._knows_any() and not self._is_known(seen.etag))

    def _is_another_list(self, first: Seen, latest: Seen) -> bool:
        if self._knows_any():
            return not self._is_known(latest.etag)
        return latest.retry_after is None or latest.etag != first.etag

    # -- changing ----------------------------------------------------------------------------

    def _change(self, call_id: str, change: Callable[[Call], object]) -> Response:
        if not self._is_meant():
            return problem(
                403,
                "Not from here",
                "A request that changes something must come from a page of this site (Origin or "
                "Sec-Fetch-Site) and carry its token, or be application/json with an X-Zasync "
                "header.",
            )
        try:
            may = partial(may_change, self._request.headers)
            seen = self._visitor.change(call_id, change, may)
        except CallNotFound:
            return not_found()
        except AnotherVersion:
            return _another_version()
        except (CallNotFinal, CallIsFinal):
            return problem(409, "Not now", "The call is not in a state in which that can be done.")
        except QuotaExceeded as exc:
            return problem(403, "Not allowed", _says(exc))
        return empty(204) if seen is None else answer(seen.body, headers=_come_again(seen))

    def _is_meant(self) -> bool:
        """Whether the request is one of our pages', or a program's on purpose."""
        request = self._request
        if not is_same_origin(request.headers, request.host_url):
            return False
        if is_programs(request.headers):
            return True
        token = request.headers.get(TOKEN_HEADER) or of_form(request, TOKEN_FIELD)
        if not token:
            return False
        return is_token(self._keys, self._visitor.principal, CHANGE, token, self._clock.now())


def _come_again(seen: Seen) -> dict[str, str]:
    """When to ask again, while there will be something new."""
    return {} if seen.retry_after is None else {"Retry-After": str(seen.retry_after)}


#: What can be done to a call by POST.
_CHANGES: dict[str, Callable[[Call], object]] = {
    "cancel": Call.cancel,
    "forget": Call.forget,
    "retry": Call.retry_callbacks,
}


def _not_now() -> Response:
    detail = "The database, or what knows the users, is busy or away at the moment."
    return problem(503, "Try again", detail, {"Retry-After": "1"})


def _another_version() -> Response:
    return problem(412, "Another version", "This is not the version that was asked for.")


def _not_logged_in() -> Response:
    return problem(403, "Not logged in", "Log in to see your calls.")


def _says(error: ZasyncError) -> str:
    """An error's own words, shortened and in ASCII, since they may repeat input."""
    return str(error)[:100].encode("ascii", "backslashreplace").decode()
