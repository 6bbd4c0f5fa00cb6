# SPDX-License-Identifier: ZPL-2.1
"""What we do with a ZEO client beyond its interface; all that we know of its inside.

A client has a thread of its own, which speaks with the server. Each step from a thread to that
one and back costs as much as a few hundred lines of Python, on two cores and under one lock for
the interpreter; so what can be done in one step is.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from ZODB.utils import p64, u64

_BUNDLE = "_wsgi_zasync_bundle"

#: So many messages are sent without waiting for the vote, and one with so many bytes at once:
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
    _ask(storage._server.client, oids, p64(u64(tid) + 1))


def save_steps(storage: Any) -> None:
    """Have a ZEO client do in one step what it does in many: send a transaction, and prefetch.

    Args:
        storage: Any; those that are no such client are left alone.
    """
    client = client_of(storage)
    if client is not None and not hasattr(client, _BUNDLE):
        setattr(client, _BUNDLE, _Bundle(client))
        client.prefetch = partial(_prefetch, client._server)


def _prefetch(runner: Any, oids: Iterable[bytes], before: bytes) -> None:
    """As the client's own does, but without a task for each object."""
    runner.loop.call_soon_threadsafe(_ask, runner.client, tuple(oids), before)


def _ask(client: Any, oids: Iterable[bytes], before: bytes) -> None:
    # It tells of what it has missed before it is connected again.
    if not client.operational or client.protocol.closed:
        return
    for oid in oids:
        if client.cache.loadBefore(oid, before) is None:
            client.protocol.load_before(oid, before)


class _Bundle:
    """What a transaction has written, until it votes.

    The client sends each message by itself, and for each one its thread has to be woken. Here
    they wait for one another; the order of all messages is kept, and what waited for a
    connection that is lost is sent on no other one.

    Threads: messages come from the one that commits, of which the client lets be only one at a
    time; they are sent in the client's own.
    """

    #: What may wait, for the same transaction always asks for something later.
    WAITING = frozenset({"tpc_begin", "storea", "checkCurrentSerialInTransaction"})

    def __init__(self, storage: Any) -> None:
        self._runner = storage._server
        self._client = self._runner.client
        self._messages: deque[tuple[Any, str, tuple[Any, ...]]] = deque()
        self._count = 0
        self._ask = self._runner.call_sync_co
        self._tell, self._tell_many = storage._async, storage._async_iter
        self._runner.call_sync_co = self._asks
        storage._async, storage._async_iter = self._tells, self._tells_many

    def _tells(self, method: str, *args: Any) -> None:
        """For what expects no answer."""
        protocol = self._client.protocol
        if method not in self.WAITING or protocol is None or not self._client.operational:
            self._send_soon()
            # Which refuses where there is no connection.
            self._tell(method, *args)
            return
        self._messages.append((protocol, method, args))
        self._count = 1 if method == "tpc_begin" else self._count + 1
        is_large = method == "storea" and len(args[2]) >= LARGE_BYTES
        if is_large or self._count >= MOST_MESSAGES:
            self._send_soon()

    def _tells_many(self, messages: Any) -> None:
        """For the parts of a blob."""
        self._send_soon()
        self._tell_many(messages)

    async def _asks(self, method: str, args: Any, timeout_seconds: float) -> Any:
        """For what expects an answer, as a vote does: in the client's thread."""
        self._send()
        return await self._ask(method, args, timeout_seconds)

    def _send_soon(self) -> None:
        self._count = 0
        if self._messages:
            self._runner.loop.call_soon_threadsafe(self._send)

    def _send(self) -> None:
        """Send what waits; in the client's thread."""
        ready = []
        while self._messages:
            protocol, method, args = self._messages.popleft()
            if protocol is self._client.protocol:
                ready.append((method, args))
        if ready:
            self._client.call_async_iter(ready)
