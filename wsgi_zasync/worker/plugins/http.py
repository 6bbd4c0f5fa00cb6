# SPDX-License-Identifier: ZPL-2.1
"""Plugin ``http.get``: fetch a URL as its owner's call. Reactor thread; never blocks.

Every hop of a redirect is a new request, checked like the first. An answer with any status
is a result; what keeps an answer from coming is an ``OutgoingError``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from treq.content import collect
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers

from ...plugins import plugin
from ...sealing import Secret
from .bodies import Body, as_text, content_type
from .failures import (
    InvalidURL,
    ProtocolFailed,
    RedirectLoop,
    TimedOut,
    TooLarge,
    TooManyRedirects,
)
from .http_options import MAX_BYTES, USER_AGENT, HTTPSettings, checked_headers, flag, seconds, whole
from .outgoing import Outgoing
from .reasons import NETWORK_ERRORS, explained
from .urls import Target, parse

MAX_REDIRECTS = 20
MAX_TIMEOUT = 3_600.0
#: What a response may send before its body begins.
MAX_HEAD = 65_536

REDIRECTS = frozenset((301, 302, 303, 307, 308))


@plugin("http.get", runs="reactor", timeout=60)
def get(
    attempt: Any,
    url: str,
    *,
    headers: Mapping[str, str | Secret] | None = None,
    as_bytes: bool = False,
    max_bytes: int | None = None,
    timeout: float | timedelta = 30.0,
    redirects: int = 5,
) -> Deferred[dict[str, Any]]:
    """Fetch a URL by GET.

    The result is a dict: ``url`` (the last one, after redirects), ``status``, ``reason``,
    ``headers`` (names in lower case; several values joined by a comma and a blank),
    ``content_type``, ``charset`` (what the text was read in, or None), ``text`` (or None),
    ``body`` (bytes, or None: either text or body is there), ``size`` (decompressed bytes),
    ``redirects`` (the URLs that led there, in order).

    Args:
        attempt: The attempt that this is; ``settings`` of it are ``[plugin:http.get]``.
        url: An absolute http or https URL without user and password.
        headers: Sent with the request, secrets opened; dropped as soon as a redirect leaves
            the origin.
        as_bytes: Leave text undecoded, in ``body``.
        max_bytes: Of the decompressed body; by default and at most what is configured.
        timeout: Seconds for everything, redirects included.
        redirects: How many are followed; with 0 the answer that redirects is the result.

    Raises:
        OutgoingError: One class for each thing that goes wrong, see ``failures``.
        InvalidArguments: An argument of a wrong type or out of its bounds.
        ConfigurationError: ``[plugin:http.get]`` cannot be read.
    """
    from twisted.internet import reactor

    settings = HTTPSettings.from_options(attempt.settings)
    fetch = Fetch(
        target=parse(url),
        headers=checked_headers({} if headers is None else headers),
        as_bytes=flag("as_bytes", as_bytes),
        max_bytes=settings.limit(max_bytes),
        timeout=seconds("timeout", timeout, MAX_TIMEOUT),
        redirects=whole("redirects", redirects, 0, MAX_REDIRECTS),
        user_agent=settings.user_agent,
    )
    return fetch.start(reactor, Outgoing(reactor, settings.rules, ca_file=settings.ca_file))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetch:
    """One GET with all its redirects."""

    target: Target
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    as_bytes: bool = False
    max_bytes: int = MAX_BYTES
    timeout: float = 30.0
    redirects: int = 5
    user_agent: str = USER_AGENT

    def start(self, reactor: Any, outgoing: Outgoing) -> Deferred[dict[str, Any]]:
        """Begin; the Deferred fires with the result and can be cancelled at any moment."""

        def too_late(_result: object, limit: float) -> Failure:
            return Failure(  # type: ignore[no-untyped-call]
                TimedOut(f"{self.target.shown}: no complete answer within {limit:g} s")
            )

        fetching = Deferred.fromCoroutine(self._follow(outgoing))
        return fetching.addTimeout(self.timeout, reactor, too_late)

    async def _follow(self, outgoing: Outgoing) -> dict[str, Any]:
        target, headers, passed = self.target, self.headers, [self.target.url]
        while True:
            outgoing.rules.check(target.scheme, target.port, target.shown)
            try:
                location, result = await self._one(outgoing, target, headers)
            finally:
                outgoing.close()
            if location is None:
                return {**result, "redirects": passed[:-1]}
            following = _next(target, location)
            if len(passed) > self.redirects:
                raise TooManyRedirects(
                    f"{target.shown}: more than {self.redirects} redirects; ask for the last "
                    "address directly, or allow more by redirects="
                )
            if following.url in passed:
                raise RedirectLoop(f"{target.shown}: the server redirects in a circle")
            if following.origin != target.origin:
                headers = {}
            target = following
            passed.append(target.url)

    async def _one(
        self, outgoing: Outgoing, target: Target, headers: Mapping[str, str]
    ) -> tuple[str | None, dict[str, Any]]:
        """One request: where it redirects to (or None), and the result."""
        try:
            outgoing.limit_received(MAX_HEAD)
            asked = outgoing.agent().request(
                b"GET", target.url.encode("ascii"), self._request_headers(headers)
            )
            response = await asked
            outgoing.limit_received(None)
            location = response.headers.getRawHeaders(b"Location")
            if response.code in REDIRECTS and location and self.redirects:
                return _text(location[0]), {}
            encodings = response.headers.getRawHeaders(b"Content-Encoding", [])
            body = Body(_text(b",".join(encodings)), self.max_bytes, target.shown)
            await collect(response, body.feed)
            return None, self._result(target, response, body)
        except NETWORK_ERRORS as exc:
            if outgoing.exceeded:
                raise TooLarge(
                    f"{target.shown}: the response's headers are larger than {MAX_HEAD:,} bytes"
                ) from exc
            raise explained(exc, target) from exc

    def _request_headers(self, headers: Mapping[str, str]) -> Headers:
        given = Headers()
        given.addRawHeader("User-Agent", self.user_agent)
        given.addRawHeader("Accept", "*/*")
        given.addRawHeader("Accept-Encoding", "gzip, deflate")
        for name, value in headers.items():
            given.setRawHeaders(name, [value])
        return given

    def _result(self, target: Target, response: Any, body: Body) -> dict[str, Any]:
        content = body.finish()
        headers = {
            _text(name).lower(): ", ".join(map(_text, values))
            for name, values in response.headers.getAllRawHeaders()
        }
        if body.decoded:
            del headers["content-encoding"]
        media_type, charset = content_type(headers.get("content-type"))
        opaque = self.as_bytes or body.unknown
        text = None if opaque else as_text(content, media_type, charset)
        return {
            "url": target.url,
            "status": response.code,
            "reason": _text(response.phrase),
            "headers": headers,
            "content_type": media_type,
            "charset": text[1] if text else None,
            "text": text[0] if text else None,
            "body": None if text else content,
            "size": len(content),
        }


def _next(target: Target, location: str) -> Target:
    """Where a redirect leads; its text is the server's, so that a bad one is the server's fault."""
    try:
        return target.follow(location.strip().replace(" ", "%20"))
    except InvalidURL as exc:
        raise ProtocolFailed(f"{target.shown}: the server redirects to what is no URL") from exc


def _text(raw: bytes) -> str:
    """Bytes of a header as text: UTF-8 where it is, else each byte a character."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
