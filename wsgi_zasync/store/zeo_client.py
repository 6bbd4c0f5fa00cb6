# SPDX-License-Identifier: ZPL-2.1
"""What we do with a ZEO client beyond its interface; all that we know of its inside.

A client has a thread of its own, which speaks with the server. Each step from a thread to that
one and back costs as much as a few hundred lines of Python, on two cores and under one lock for
the interpreter; so what can be done in one step is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ZODB.utils import p64, u64

from ..fork_lock import ForkLock

logger = logging.getLogger(__name__)

_BUNDLE = "_wsgi_zasync_bundle"
_changing = ForkLock()

#: When so many messages wait they are sent before the vote, and one with so many bytes at once:
#: while the server takes in those of a large transaction, the next are made.
MOST_MESSAGES = 64
LARGE_BYTES = 16_384


def client_of(storage: Any) -> Any:
    """The client of a ZEO server that a storage is, or that it wraps to compress or encrypt.

    None for all other storages.
    """
    # Who has one has loaded it, and who has none need not.
    module = sys.modules.get("ZEO.ClientStorage")
    while module is not None and storage is not None:
        if isinstance(storage, module.ClientStorage):
            return storage
        storage = getattr(storage, "base", None)
    return None


def tell_of_commits(
    storage: Any, told: Callable[[list[bytes], bytes], None], returned: Callable[[], None]
) -> None:
    """Be told, in the client's thread, of what other clients have committed.

    Args:
        storage: A ZEO client.
        told: Called with the oids and the tid, once the client lets that transaction be seen.
        returned: Called when it is connected again: of what was committed meanwhile nobody is
            told.
    """
    invalidate, connected = storage.invalidateTransaction, storage.notify_connected

    def invalidate_and_tell(tid: bytes, oids: Iterable[bytes]) -> None:
        oids = list(oids)
        invalidate(tid, oids)
        # Not here: ZEO lets the transaction be seen only after this, and who is told before
        # that has to wait for it.
        asyncio.get_running_loop().call_soon(told, oids, tid)

    def tell_of_return(*args: Any) -> None:
        connected(*args)
        returned()

    storage.invalidateTransaction = invalidate_and_tell
    storage.notify_connected = tell_of_return


def forget_oids_without_server(storage: Any) -> None:
    """Have a client ask anew for oids when its server was away.

    It keeps a stock of them for new objects. A server that was killed has forgotten whom it gave
    them to, and gives them out again: every new object would then conflict with somebody's.
    """
    disconnected = storage.notify_disconnected

    def forget_oids() -> None:
        disconnected()
        del storage._oids[:]

    storage.notify_disconnected = forget_oids


def ask_for(storage: Any, oids: Iterable[bytes], tid: bytes) -> None:
    """Ask the server for objects as of this transaction, in the client's thread.

    At once, and not as the client's ``prefetch`` does when its thread is at leisure: for then
    who is woken meanwhile has the interpreter, and waits for what was not even asked for.
    """
    _load(storage._server.client, oids, p64(u64(tid) + 1))


def save_steps(storage: Any) -> None:
    """Have a ZEO client do in one step what it does in many.

    What a small transaction writes is sent together with its vote, and objects are prefetched
    without a task for each. Storages that are no such client are left alone.
    """
    client = client_of(storage)
    with _changing:
        if client is None or hasattr(client, _BUNDLE):
            return
        try:
            setattr(client, _BUNDLE, _Bundle(client))
            client.prefetch = partial(_prefetch, client._server)
        except AttributeError as exc:
            logger.info("a ZEO client of an unknown kind takes its steps one by one: %s", exc)


def _prefetch(runner: Any, oids: Iterable[bytes], before: bytes) -> None:
    _do_soon(runner, partial(_load, runner.client, tuple(oids), before))


def _load(client: Any, oids: Iterable[bytes], before: bytes) -> None:
    """Ask the server for what the cache does not have; in the client's thread."""
    # When it is connected again it tells of what it has missed, but cannot ask for it yet.
    if not client.operational or client.protocol.closed:
        return
    for oid in oids:
        if client.cache.loadBefore(oid, before) is None:
            client.protocol.load_before(oid, before)


def _do_soon(runner: Any, do: Callable[[], None]) -> None:
    """Have something done in the client's thread, unless there is no connection."""
    if runner.client.operational:
        # It may be closed at this very moment, and nobody needs it then.
        with contextlib.suppress(RuntimeError):
            runner.loop.call_soon_threadsafe(do)


class _Bundle:
    """What a transaction has written, until it votes.

    The client sends each message by itself, and for each one its thread has to be woken. Here
    they wait for one another; the order of all messages is kept, and what waited for a
    connection that is lost is sent on no other one.

    Its methods take the place of the client's own of the same names.

    Threads: of those that commit the client lets only one be between ``tpc_begin`` and the end;
    other messages may come from any. All are sent in the client's own.
    """

    #: What may wait: the same transaction asks for a vote or an abort later, and that sends it.
    WAITING = frozenset({"tpc_begin", "storea", "checkCurrentSerialInTransaction"})

    def __init__(self, storage: Any) -> None:
        """Take the places.

        Raises:
            AttributeError: The client has no such methods, and is left as it was.
        """
        self._runner = storage._server
        self._client = self._runner.client
        self._messages: deque[tuple[Any, str, tuple[Any, ...]]] = deque()
        self._count = 0
        self._own_async, self._own_async_iter = storage._async, storage._async_iter
        self._own_call_sync_co = self._runner.call_sync_co
        storage._async, storage._async_iter = self.async_, self.async_iter
        self._runner.call_sync_co = self.call_sync_co

    def async_(self, method: str, *args: Any) -> None:
        """For what expects no answer."""
        protocol = self._client.protocol
        if method not in self.WAITING or protocol is None or not self._client.operational:
            self._send_soon()
            # Which refuses where there is no connection.
            self._own_async(method, *args)
            return
        self._messages.append((protocol, method, args))
        self._count = 1 if method == "tpc_begin" else self._count + 1
        is_large = method == "storea" and len(args[2] or b"") >= LARGE_BYTES
        if is_large or self._count >= MOST_MESSAGES:
            self._send_soon()

    def async_iter(self, messages: Any) -> None:
        """For the parts of a blob."""
        self._send_soon()
        self._own_async_iter(messages)

    async def call_sync_co(self, method: str, args: Any, timeout_seconds: float) -> Any:
        """For what expects an answer, as a vote does: in the client's thread."""
        self._send()
        return await self._own_call_sync_co(method, args, timeout_seconds)

    def _send_soon(self) -> None:
        self._count = 0
        if self._messages:
            _do_soon(self._runner, self._send)

    def _send(self) -> None:
        """Send what waits; in the client's thread."""
        protocol, ready = self._client.protocol, []
        while self._messages:
            meant_for, method, args = self._messages.popleft()
            if meant_for is protocol:
                ready.append((method, args))
        if not ready:
            return
        try:
            # All of them before the first is sent, for nothing may be missing.
            encoded = [protocol.encode(0, True, method, args) for method, args in ready]
        except Exception as exc:
            # Who asks for something now may be another one than whose messages these are.
            logger.exception("a transaction cannot be sent to the ZEO server")
            protocol.close(exc)
            self._client.disconnected(protocol)
        else:
            protocol.write_message_iter(encoded)
