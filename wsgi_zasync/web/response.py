# SPDX-License-Identifier: ZPL-2.1
"""A response on its way out, and the commit that comes before its first byte.

A request whose application uses no manager passes untouched: the application's own iterable is
returned. Only status and headers are kept back until the first part of the body is there, so
that a commit that fails can still become a 500 or 503.

One exchange serves one request, in the thread that the server uses for it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .connection import WSGIAccess
from .transactions import Puts, is_transient

logger = logging.getLogger(__name__)

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], Any]]
#: Whether a response with this status and these headers must not commit.
Veto = Callable[[Environ, str, list[tuple[str, str]]], bool]

#: Seconds after which a client may try again when a commit met a conflict.
RETRY_AFTER_SECONDS = 1

_LOST = (
    b"What you asked for could not be saved, so nothing of it was done. "
    b"Please try again in a moment.\n"
)
_UNSURE = (
    b"The connection to the database was lost while your request was being saved, so that it is "
    b"not known whether it was. Please look before you try again.\n"
)
_BROKEN = b"What you asked for could not be saved, so nothing of it was done.\n"


def default_veto(environ: Environ, status: str, headers: list[tuple[str, str]]) -> bool:
    """Veto the commit of client and server errors."""
    return status.startswith(("4", "5"))


class CommitFailed(Exception):
    """Raised into an application that uses ``write()`` when the commit before it failed."""


class Exchange:
    """One request's way through the application and back."""

    __slots__ = (
        "_access",
        "_environ",
        "_failure",
        "_held",
        "_is_settled",
        "_puts",
        "_server_start",
        "_server_write",
        "_veto",
    )

    def __init__(
        self,
        environ: Environ,
        start_response: StartResponse,
        access: WSGIAccess,
        puts: Callable[[], Puts | None],
        veto: Veto = default_veto,
    ) -> None:
        """Begin; nothing is opened by that."""
        self._environ = environ
        self._server_start = start_response
        self._access = access
        self._puts = puts
        self._veto = veto
        #: Status and headers that the server has not been given yet.
        self._held: tuple[str, list[tuple[str, str]]] | None = None
        self._server_write: Callable[[bytes], Any] | None = None
        #: Whether our transaction has ended, if there was one.
        self._is_settled = False
        self._failure: Exception | None = None

    def run(self, application: Callable[..., Iterable[bytes]]) -> Iterable[bytes]:
        """Call the application, and return what the server is to iterate over."""
        try:
            body = application(self._environ, self._start_response)
        except CommitFailed:
            return self._error_page()
        except BaseException:
            self._access.close()
            raise
        if self._failure is not None:
            return self._error_page(body)
        try:
            begun = self._begun(body)
        except BaseException:
            self._access.close()
            _close(body)
            raise
        return self._error_page(body) if begun is None else begun

    def _begun(self, body: Iterable[bytes]) -> Iterable[bytes] | None:
        """What the server is to iterate over in the place of ``body``; None: not committed."""
        if type(body) in (list, tuple) or _is_file(self._environ, body):
            # Nothing of the application's runs any more when such a body is iterated over.
            self.settle()
            if self._failure is not None:
                return None
            self._access.close()
            self.flush()
            return body
        return Body(self, body, at_once=self._access.own.is_open)

    # -- what the application calls ----------------------------------------------------------

    def _start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], Any]:
        if self._server_write is not None:
            # The server has the first status already: it decides, and raises exc_info if the
            # headers are out.
            try:
                self._server_write = self._server_start(
                    status, headers, *(() if exc_info is None else (exc_info,))
                )
            finally:
                exc_info = None
            return self._server_write
        if self._held is not None and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        self._held = (status, headers)
        return self._write

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if not self._is_settled:
            self.settle(goes_on=True)
        if self._failure is not None:
            raise CommitFailed(str(self._failure)) from self._failure
        self.flush()
        assert self._server_write is not None
        self._server_write(data)

    # -- the end of our transaction ----------------------------------------------------------

    def settle(self, goes_on: bool = False) -> None:
        """End our transaction, if there is one: commit, or abort if vetoed or without a status.

        Args:
            goes_on: Whether the application goes on to make more of the response.
        """
        self._is_settled = True
        own = self._access.own
        if not own.is_open or self._held is None or self._veto(self._environ, *self._held):
            own.abort()
        else:
            try:
                own.commit(self._puts)
            except Exception as exc:  # whatever it was becomes the response
                self._failure = exc
                logger.error("a request could not be committed", exc_info=exc)
        if goes_on and self._failure is None:
            own.go_on_reading()

    @property
    def has_failed(self) -> bool:
        """Whether the commit failed, so that the response must say so."""
        return self._failure is not None

    def flush(self) -> None:
        """Give the server the status and headers."""
        if self._held is not None and self._server_write is None:
            self._server_write = self._server_start(*self._held)

    def finish(self) -> None:
        """The response is complete, or nobody wants the rest."""
        self._access.close()

    def _error_page(self, body: Any = None) -> list[bytes]:
        """The response in the place of one that promised what was not saved."""
        try:
            _close(body)
        finally:
            self._access.close()
        return [self.fail()]

    def fail(self) -> bytes:
        """Start the response that says why nothing was saved; returns its body."""
        failure = self._failure
        assert failure is not None
        status, text = "500 Internal Server Error", _BROKEN
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if is_transient(failure):
            status, text = "503 Service Unavailable", _LOST
            if "Disconnected" in type(failure).__name__:
                text = _UNSURE
            headers.append(("Retry-After", str(RETRY_AFTER_SECONDS)))
        headers.append(("Content-Length", str(len(text))))
        self._server_write = self._server_start(status, headers)
        return b"" if self._environ.get("REQUEST_METHOD") == "HEAD" else text


class Body:
    """The application's body, with the commit before its first part that is not empty."""

    __slots__ = ("_exchange", "_first", "_is_closed", "_is_streaming", "_iterator", "_source")

    def __init__(self, exchange: Exchange, source: Iterable[bytes], at_once: bool) -> None:
        """Take the application's iterable.

        Args:
            exchange: The request.
            source: What the application returned.
            at_once: Whether to commit now rather than when the server asks for the first part,
                since a transaction is open already.
        """
        self._exchange = exchange
        self._source = source
        self._iterator: Iterator[bytes] = iter(source)
        self._is_streaming = False
        self._is_closed = False
        self._first: bytes | None = None
        if at_once:
            self._first = self._pull()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if self._is_streaming:
            return self._next()
        pulled = self._pull()
        if pulled is None:
            raise StopIteration
        return pulled

    def _next(self) -> bytes:
        try:
            return next(self._iterator)
        except BaseException:
            # The end, or a failure. Not every server or filter calls close() after it.
            self._exchange.finish()
            raise

    def _pull(self) -> bytes | None:
        """The first part that is not empty, with all before it committed; None: there is none."""
        exchange = self._exchange
        try:
            first = next(filter(None, self._iterator), None)
        except CommitFailed:
            first = None
        except BaseException:
            exchange.finish()
            raise
        self._is_streaming = True
        if not exchange._is_settled:
            exchange.settle(goes_on=first is not None)
        if exchange.has_failed:
            self._iterator = iter(())
            return exchange.fail() or None
        exchange.flush()
        return first

    def close(self) -> None:
        """Close the application's body, then what we have opened for it."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            _close(self._source)
        finally:
            self._exchange.finish()


def _is_file(environ: Environ, body: Any) -> bool:
    """Whether a body is what the server's ``file_wrapper`` has given, which the server will know.

    The wrapper of some servers is no class but a function, as uWSGI's, and gives the file itself.
    Iterated over, by whoever stands between, that would come by the line: all at once if it has
    none.
    """
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    return wrapper is not None and hasattr(body, "read")


def _close(body: Any) -> None:
    close = getattr(body, "close", None)
    if close is not None:
        close()
