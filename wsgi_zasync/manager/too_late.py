# SPDX-License-Identifier: ZPL-2.1
"""What happens to who keeps a call, or its manager, longer than the transaction it is of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar

from ZODB.POSException import ConnectionStateError

from ..errors import InvalidArguments, TransactionOver

T = TypeVar("T")


def read_too_late(call_id: str) -> TransactionOver:
    """The error for a call whose connection is not its request's any more."""
    return TransactionOver(
        f"the request that has looked at call {call_id} has ended, and its connection is closed or "
        "another one's: keep the id, and get the call anew by calls.get(id)"
    )


def reading(method: Callable[[Any], T]) -> Callable[[Any], T]:
    """For what reads more of a call than its record, which may be loaded while all else is not.

    Of a closed connection ZODB's own error would say which object of ours it is that it misses.
    """

    @wraps(method)
    def read(call: Any) -> T:
        try:
            return method(call)
        except ConnectionStateError:
            raise read_too_late(call.id) from None

    return read


class OfOneTransaction:
    """What cannot be stored: not in a database, nor in a session or a cache."""

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse.

        Raises:
            InvalidArguments: Always.
        """
        raise InvalidArguments(
            f"a {type(self).__qualname__} cannot be stored, being of one transaction: store the "
            "call's id, and ask for it in the next one by calls.get(id)"
        )
