# SPDX-License-Identifier: ZPL-2.1
"""The user's side over HTTP: what has become of my calls, and stop this one.

Each request has a small transaction of its own, beside any other: one that only reads is always
aborted, one that changes something commits. Whose call it is is decided before anything else of
the request is looked at. A client that waits holds no connection and no transaction.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from transaction.interfaces import TransientError
from webob import Request, Response

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
from ..manager import CallManager
from ..sealing import ETAG, Keys
from ..security import Principal
from ..states import CallState
from ..store.wakeup import signal_for
from ..view import Call
from .answers import DOWNLOAD_HEADERS, answer, empty, encoded, not_found, problem
from .connection import Surroundings
from .csrf import TOKEN_FIELD, TOKEN_HEADER, is_programs, is_same_origin, is_token
from .owners import CALLS_DATABASE
from .transactions import calls_connection, claim_lane, in_transaction, reading
from .waiting import WaitingGate

#: How many calls a list has where the client does not say, and at most.
DEFAULT_LIMIT = 50
MAX_LIMIT = 200

#: Seconds after which a client that polls a call that waits for later is told to come again.
LONGEST_RETRY_AFTER = 60

#: Bytes of a form that are read for its token.
MAX_FORM_BYTES = 65_536

#: What tokens of forms that change a call are made for.
CHANGE = "change"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a call showed; plain, so that it outlives the connection."""

    oid: bytes
    state: CallState
    shown: dict[str, Any]
    body: bytes
    etag: str
    retry_after: int | None

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more but callbacks."""
        return self.state.is_final


class PollAccess:
    """``ports.Access`` of one small transaction, for the user that makes the request."""

    def __init__(
        self, connection: Any, principal: Principal, base_path: str, surroundings: Surroundings
    ) -> None:
        """Use this connection, whose explicit manager has begun a transaction."""
        self.base_path = base_path
        self._connection = connection
        self._principal = principal
        self._surroundings = surroundings

    def transaction(self) -> Any:
        """The transaction of the connection."""
        return self._connection.transaction_manager.get()

    def application_connection(self) -> Any:
        """The connection itself."""
        return self._connection

    def store_connection(self) -> Any:
        """The connection to the database that holds the calls."""
        return calls_connection(self._connection)

    def authenticated(self) -> Principal:
        """Who makes the request."""
        return self._principal

    def bind(self, connection: Any) -> None:
        """Refuse: there is no application here that could bind one.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("a polling request has a transaction of its own")

    def claim_lane(self, store: Any) -> int:
        """Claim a lane for this process."""
        return claim_lane(store.connection.db(), self._surroundings.site, self._surroundings.token)


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
        request = _Poll(self, Request(environ), principal, base_path, may_wait)
        response = request.answered(path.split("/")[1:])
        body: Iterable[bytes] = response(environ, start_response)
        return body


class _Poll:
    """One request."""

    def __init__(
        self,
        application: PollApplication,
        request: Request,
        principal: Principal | None,
        base_path: str,
        may_wait: bool,
    ) -> None:
        self._surroundings = application._surroundings
        self._deployment = application._deployment
        self._gate = application._gate
        self._keys = application._keys
        self._request = request
        self._principal = principal
        self._base_path = base_path
        self._may_wait = may_wait

    def answered(self, segments: list[str]) -> Response:
        """The answer to a path of these segments."""
        try:
            match segments:
                case ["calls"]:
                    return self._calls()
                case ["calls", call_id]:
                    return self._call(call_id)
                case ["calls", call_id, "result"]:
                    return self._result(call_id)
                case ["calls", call_id, action] if action in _CHANGES:
                    return self._act(call_id, action)
        except TransientError:
            return problem(
                503,
                "Try again",
                "The database is busy or cannot be reached at the moment.",
                {"Retry-After": "1"},
            )
        return not_found()

    # -- reading -----------------------------------------------------------------------------

    def _calls(self) -> Response:
        if self._principal is None:
            return problem(403, "Not logged in", "Log in to see your calls.")
        if self._request.method == "OPTIONS":
            return empty(204, {"Allow": "GET, HEAD, OPTIONS"})
        if self._request.method not in ("GET", "HEAD"):
            return _method_not_allowed("GET, HEAD, OPTIONS")
        try:
            body = reading(self._database(), self._listed)
        except CallNotFound:
            return _unfit("after", "the id of one of your calls")
        except InvalidArguments as exc:
            return _unfit(exc.path or "state", "one of the states, and limit a number")
        return self._conditional(body, self._etag(body), {})

    def _listed(self, connection: Any) -> bytes:
        query = self._request.GET
        limit = _limit(query.get("limit"))
        calls = self._manager(connection).mine(
            state=query.get("state"), limit=limit + 1, after=query.get("after")
        )
        shown = [call.to_dict() for call in calls[:limit]]
        following = None
        if len(calls) > limit:
            following = f"{self._base_path}/calls?limit={limit}&after={shown[-1]['id']}"
            if "state" in query:
                following += "&state=" + quote(query["state"])
        return encoded({"calls": shown, "next": following})

    def _call(self, call_id: str) -> Response:
        seen = self._look(call_id)
        if seen is None:
            return not_found()
        method = self._request.method
        if method == "DELETE":
            return self._change(call_id, _cancel)
        if method == "OPTIONS":
            return empty(204, {"Allow": "GET, HEAD, DELETE, OPTIONS"})
        if method not in ("GET", "HEAD"):
            return _method_not_allowed("GET, HEAD, DELETE, OPTIONS")
        wanted = self._request.GET.get("wait")
        if wanted is not None:
            seconds = _seconds(wanted)
            if seconds is None:
                return _unfit("wait", "a number of seconds")
            seen = self._waited(call_id, seen, seconds)
            if seen is None:
                return not_found()
        return self._shown(seen)

    def _shown(self, seen: Seen) -> Response:
        headers = {} if seen.retry_after is None else {"Retry-After": str(seen.retry_after)}
        return self._conditional(seen.body, seen.etag, headers)

    def _conditional(self, body: bytes, etag: str, headers: dict[str, str]) -> Response:
        headers = {**headers, "ETag": f'"{etag}"'}
        if "If-None-Match" in self._request.headers and etag in self._request.if_none_match:
            return empty(304, headers)
        return answer(body, headers=headers)

    def _result(self, call_id: str) -> Response:
        seen = self._look(call_id)
        if seen is None:
            return not_found()
        method = self._request.method
        if method == "OPTIONS":
            return empty(204, {"Allow": "GET, HEAD, OPTIONS"})
        if method not in ("GET", "HEAD"):
            return _method_not_allowed("GET, HEAD, OPTIONS")
        if not seen.is_final:
            headers = {"Retry-After": str(seen.retry_after or 1)}
            detail = "The call has not ended, so that it has no result yet."
            return problem(409, "No result yet", detail, headers, state=str(seen.state))
        if seen.state is not CallState.SUCCEEDED:
            detail = f"The call ended {seen.state}, and has no result."
            return problem(409, "No result", detail, state=str(seen.state))
        return answer(encoded({"result": seen.shown["result"]}), headers=DOWNLOAD_HEADERS)

    def _look(self, call_id: str) -> Seen | None:
        """The call as it is now, or None if there is none for this user."""
        if self._principal is None:
            return None

        def look(connection: Any) -> Seen | None:
            try:
                return self._seen(self._manager(connection).get(call_id))
            except CallNotFound:
                return None

        return reading(self._database(), look)

    def _seen(self, call: Call) -> Seen:
        shown = call.to_dict()
        body = encoded(shown)
        return Seen(
            oid=call._record._p_oid,
            state=call.state,
            shown=shown,
            body=body,
            etag=self._etag(body),
            retry_after=None if call.is_final else self._retry_after(call),
        )

    def _retry_after(self, call: Call) -> int:
        if call.due is None:
            return 1
        ahead = (call.due - self._deployment.clock.now()).total_seconds()
        return max(1, min(LONGEST_RETRY_AFTER, math.ceil(ahead)))

    def _etag(self, body: bytes) -> str:
        assert self._principal is not None
        digest = hashlib.blake2b(body, digest_size=16, key=self._keys.current(ETAG))
        digest.update("\0".join(self._principal.owner).encode())
        return digest.hexdigest()

    # -- waiting -----------------------------------------------------------------------------

    def _waited(self, call_id: str, seen: Seen, seconds: float) -> Seen | None:
        """The call when it has ended, has changed from what the client knows, or time is up."""
        assert self._principal is not None
        if not self._may_wait or self._is_news(seen):
            return seen
        with self._gate.entered(self._principal.owner) as is_in:
            if not is_in:
                return seen
            database = self._database()
            signal = signal_for(database.databases.get(CALLS_DATABASE, database))
            clock = self._deployment.clock
            until = clock.monotonic() + min(seconds, self._gate.longest_seconds)
            with signal.watch(seen.oid) as watch:
                latest = self._look(call_id)
                while latest is not None and not self._is_news(latest):
                    left = until - clock.monotonic()
                    is_over = left <= 0 or not watch.wait(left)
                    latest = self._look(call_id)
                    if is_over:
                        break
        return latest

    def _is_news(self, seen: Seen) -> bool:
        if seen.is_final:
            return True
        if "If-None-Match" not in self._request.headers:
            return False
        return seen.etag not in self._request.if_none_match

    # -- changing ----------------------------------------------------------------------------

    def _act(self, call_id: str, action: str) -> Response:
        if self._look(call_id) is None:
            return not_found()
        if self._request.method == "OPTIONS":
            return empty(204, {"Allow": "POST, OPTIONS"})
        if self._request.method != "POST":
            return _method_not_allowed("POST, OPTIONS")
        return self._change(call_id, _CHANGES[action])

    def _change(self, call_id: str, change: Callable[[Call], None]) -> Response:
        if not self._is_meant():
            return problem(
                403,
                "Not from here",
                "A request that changes something must come from a page of this site (Origin or "
                "Sec-Fetch-Site) and carry its token, or be application/json with an X-Zasync "
                "header.",
            )

        def changed(connection: Any) -> Seen | None:
            call = self._manager(connection).get(call_id)
            change(call)
            return None if change is _forget else self._seen(call)

        try:
            seen = in_transaction(self._database(), changed)
        except CallNotFound:
            return not_found()
        except (CallNotFinal, CallIsFinal):
            return problem(409, "Not now", "The call is not in a state in which that can be done.")
        except (Unauthorized, QuotaExceeded) as exc:
            return problem(403, "Not allowed", _says(exc))
        return empty(204) if seen is None else self._shown_after(seen)

    def _shown_after(self, seen: Seen) -> Response:
        headers = {} if seen.retry_after is None else {"Retry-After": str(seen.retry_after)}
        return answer(seen.body, headers=headers)

    def _is_meant(self) -> bool:
        """Whether the request is one of our pages', or a program's on purpose."""
        request = self._request
        if not is_same_origin(request.headers, request.host_url):
            return False
        if is_programs(request.headers):
            return True
        token = request.headers.get(TOKEN_HEADER) or self._form_token()
        if not token:
            return False
        assert self._principal is not None
        now = self._deployment.clock.now()
        return is_token(self._keys, self._principal, CHANGE, token, now)

    def _form_token(self) -> str | None:
        length = self._request.content_length
        if self._request.method != "POST" or length is None or length > MAX_FORM_BYTES:
            return None
        found = self._request.POST.get(TOKEN_FIELD)
        return found if type(found) is str else None

    # -- the database ------------------------------------------------------------------------

    def _database(self) -> Any:
        return self._surroundings.any_database()

    def _manager(self, connection: Any) -> CallManager:
        assert self._principal is not None
        access = PollAccess(connection, self._principal, self._base_path, self._surroundings)
        return CallManager(access, self._deployment)


def _cancel(call: Call) -> None:
    if not call.is_final:
        call.cancel()


def _forget(call: Call) -> None:
    call.forget()


def _retry(call: Call) -> None:
    call.retry_callbacks()


#: What can be done to a call by POST.
_CHANGES: dict[str, Callable[[Call], None]] = {
    "cancel": _cancel,
    "forget": _forget,
    "retry": _retry,
}


def _seconds(text: str) -> float | None:
    """Seconds of ``?wait=``; None for what is no length of time."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) < 1:
        raise InvalidArguments("limit is no number", path="limit")
    return min(int(text), MAX_LIMIT)


def _unfit(name: str, wanted: str) -> Response:
    return problem(400, "Bad request", f"The parameter {name} must be {wanted}.")


def _method_not_allowed(allowed: str) -> Response:
    return problem(405, "Not possible", f"Use one of {allowed}.", {"Allow": allowed})


def _says(error: ZasyncError) -> str:
    """An error's own words, shortened and in ASCII, since they may repeat input."""
    return str(error)[:100].encode("ascii", "backslashreplace").decode()
