# SPDX-License-Identifier: ZPL-2.1
"""One user's calls, as a visitor of our addresses sees and changes them.

Each look has a small transaction of its own, which is aborted; each change one that commits and
is tried again after a conflict. What a look shows is plain data: it outlives the connection.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from transaction.interfaces import TransientError

from ..deployment import Deployment
from ..errors import CallNotFound, Unauthorized
from ..expressions import CannotDecide
from ..manager import CallManager
from ..manager.access import ConnectionAccess
from ..manager.view import Call
from ..sealing import ETAG, Keys
from ..security import Principal, principal_now
from ..states import CallState
from ..store import Store
from ..store.databases import calls_database
from .answers import encoded
from .connection import Surroundings
from .transactions import catch_up, in_transaction, lane_claimer, reading

#: Bytes of calls in a list, after the first of them: the results are in it, and may be large.
MOST_LISTED_BYTES = 4_000_000

#: Seconds after which a client that polls a call that waits for later is told to come again.
LONGEST_RETRY_AFTER = 60


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look showed; plain, so that it outlives the connection."""

    #: The objects that it was read from, as far as they may still be written.
    oids: frozenset[bytes]
    body: bytes
    etag: str
    #: Seconds; None: nothing of it will change any more but callbacks.
    retry_after: int | None


@dataclass(frozen=True, slots=True)
class SeenCall(Seen):
    """One call."""

    state: CallState
    shown: dict[str, Any]

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state.is_final


class AnotherVersion(Exception):
    """The call is not in a version in which the visitor wants to change it."""


class Visitor:
    """A user at our addresses."""

    def __init__(
        self,
        principal: Principal,
        base_path: str,
        surroundings: Surroundings,
        deployment: Deployment,
        keys: Keys,
    ) -> None:
        """Receive ``principal``, with links that begin with ``base_path``."""
        self.principal = principal
        self._base_path = base_path
        self._surroundings = surroundings
        self._deployment = deployment
        self._keys = keys

    def look(self, call_id: str) -> SeenCall | None:
        """The call as it is now, or None if this user has none of that id.

        Raises:
            Unauthorized: The policy says that the user is gone.
        """

        def look(connection: Any) -> SeenCall | None:
            try:
                return self._seen(self._manager(connection).get(call_id))
            except CallNotFound:
                return None

        found = reading(self._database(), look)
        if found is None and catch_up(self.calls_database()):
            # Put a moment ago by another process, perhaps, whose commit is still on its way.
            found = reading(self._database(), look)
        return found

    def listed(self, state: str | None, limit: int, after: str | None) -> Seen:
        """The newest calls, ``limit`` at most, and the address of those that follow.

        Raises:
            CallNotFound: There is no call ``after``.
            InvalidArguments: There is no such state.
        """

        def look(connection: Any) -> Seen:
            manager = self._manager(connection)
            calls = manager.mine(state=state, limit=limit + 1, after=after)
            shown, size = [], 0
            for call in calls[:limit]:
                shown.append(encoded(call.to_dict()).rstrip())
                size += len(shown[-1])
                if size > MOST_LISTED_BYTES and len(shown) > 1:
                    shown.pop()
                    break
            following = None
            if len(calls) > len(shown):
                last = calls[len(shown) - 1].id
                following = f"{self._base_path}/calls?limit={limit}&after={last}"
                if state is not None:
                    following += f"&state={quote(state)}"
            body = b'{"calls":[%s],"next":%s}\n' % (b",".join(shown), encoded(following).rstrip())
            store = manager._context(self.principal).store
            open_calls = [call for call in calls[: len(shown)] if not call.is_final]
            return Seen(
                oids=_oids(
                    [
                        *_of_workers(store),
                        *store.next_written(self.principal.owner),
                        *(each for call in open_calls for each in _of_call(call)),
                    ]
                ),
                body=body,
                etag=self.etag(body),
                retry_after=min(map(self._retry_after, open_calls), default=None),
            )

        return reading(self._database(), look)

    def change(
        self, call_id: str, change: Callable[[Call], object], may_change: Callable[[str], bool]
    ) -> SeenCall | None:
        """Change a call; None if it is gone by that.

        Args:
            call_id: Of the call.
            change: Changes it.
            may_change: Tells it from the call's ETag.

        Raises:
            CallNotFound: This user has none of that id.
            AnotherVersion: It may not be changed as it is.
            ZasyncError: What the change raises.
        """

        def changed(connection: Any) -> SeenCall | None:
            manager = self._manager(connection)
            call = manager.get(call_id)
            if not may_change(self._seen(call).etag):
                raise AnotherVersion
            change(call)
            return self._seen(call) if call_id in manager else None

        return in_transaction(self._database(), changed)

    def calls_database(self) -> Any:
        """The database that holds the calls."""
        return calls_database(self._database())

    def etag(self, body: bytes) -> str:
        """What tells this body from others; another one for each user."""
        digest = hashlib.blake2b(body, digest_size=16, key=self._keys.current(ETAG))
        digest.update("\0".join(self.principal.owner).encode())
        return digest.hexdigest()

    def _seen(self, call: Call) -> SeenCall:
        shown = call.to_dict()
        body = encoded(shown)
        return SeenCall(
            oids=_oids([*_of_workers(call._context.store), *_of_call(call)]),
            state=call.state,
            shown=shown,
            body=body,
            etag=self.etag(body),
            retry_after=None if call.is_final else self._retry_after(call),
        )

    def _retry_after(self, call: Call) -> int:
        if call.due is None:
            return 1
        ahead = (call.due - self._deployment.clock.now()).total_seconds()
        return max(1, min(LONGEST_RETRY_AFTER, math.ceil(ahead)))

    def _database(self) -> Any:
        return self._surroundings.any_database()

    def _manager(self, connection: Any) -> CallManager:
        # Whoever was disabled sees nothing any more, whatever cookie is still good.
        try:
            principal_now(self._deployment.policy, self.principal, connection.root())
        except (Unauthorized, TransientError):
            raise
        except Exception as exc:
            raise CannotDecide("the policy could not decide") from exc
        claim = lane_claimer(self._surroundings.token)
        access = ConnectionAccess(connection, self.principal, claim, base_path=self._base_path)
        return CallManager(access, self._deployment)


def _oids(objects: Iterable[Any]) -> frozenset[bytes]:
    return frozenset(each._p_oid for each in objects if each is not None) - {None}


def _of_workers(store: Store) -> list[Any]:
    """Their boards, and what says which there are."""
    return [store.site.workers, *(area.board for area in store.areas())]


def _of_call(call: Call) -> list[Any]:
    """Its record, and what its owner has written since."""
    return [call._record, call._record.mailbox]
