# SPDX-License-Identifier: ZPL-2.1
"""Who somebody is for a worker, and what the security policy says of them now.

Transaction: whichever the decision is for. User: the owner of a call with the authority of now, or
the author of its text; what either had at the put is not asked about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ...errors import TransactionOver, Unauthorized, ZasyncError
from ...expressions import CannotDecide
from ...ports import SecurityPolicy
from ...security import Principal, decided, principal_now
from ..desk import AWAY, is_foreign
from ..redaction import shown, text_of


#: Who puts one call puts others, and a principal is checked as it is made.
@lru_cache(maxsize=1024)
def principal_of(owner: tuple[str, str], title: str | None = None) -> Principal:
    """The principal that this owner, or author, is: without any authority."""
    source, identifier = owner
    return Principal(identifier, source, title=title)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A policy that is asked in one way, whatever the question (``ports.SecurityPolicy``)."""

    policy: SecurityPolicy

    def principal_now(self, principal: Principal, root: Any, /) -> Principal:
        """The principal with the authority of this transaction.

        Raises:
            Unauthorized: The principal is gone or disabled.
            AnotherPrincipal: The policy gave somebody else, or nobody.
        """
        found: Principal = self._answer(principal_now, self.policy, principal, root)
        return found

    def allows(self, principal: Any, permission: str, object: Any, /) -> bool:
        """Whether the principal has the permission on this object."""
        return bool(self._answer(self._allows, principal, permission, object))

    def _allows(self, *about: Any) -> bool:
        return decided(self.policy.allows(*about))

    def root_for(self, principal: Principal, root: Any, /) -> Any:
        """The object that expressions of this principal see as ``root``."""
        return self._answer(self.policy.root_for, principal, root)

    def _answer(self, question: Callable[..., Any], *about: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Deciding(_Asked):
    """The policy as a callback's put asks it, among other things.

    A put has errors of our kinds, too: one of the policy's would pass for what the put itself
    says, and be a no. It is raised as ``CannotDecide``; others are left as they are.
    """

    def _answer(self, question: Callable[..., Any], *about: Any) -> Any:
        try:
            return question(*about)
        except Unauthorized:
            raise
        except ZasyncError as exc:
            raise CannotDecide(f"the security policy failed: {shown(text_of(exc))}") from exc


@dataclass(frozen=True, slots=True)
class Authority(_Asked):
    """The policy as a worker asks it, in one transaction.

    Whatever is asked may raise three things: ``Unauthorized`` is a no; ``CannotDecide`` means
    that nobody knows, and that what was asked for waits; ``desk.AWAY`` that a storage of our own
    is away, for which the worker waits.
    """

    #: To the application's database.
    connection: Any

    def _answer(self, question: Callable[..., Any], *about: Any) -> Any:
        manager = self.connection.transaction_manager
        ours = (manager, manager.get())
        for each in ours:
            # What is in the transaction, other calls among it, must not be committed or lost by a
            # policy that believes it is its own.
            each.commit = each.abort = _refuse_to_end
        try:
            return question(*about)
        except (Unauthorized, CannotDecide, KeyboardInterrupt):
            raise
        except BaseException as exc:
            # Whatever a policy raises, it must not end the worker, nor hold up everybody's calls
            # because a database of its own is away, or says to try again.
            if isinstance(exc, AWAY) and not is_foreign(exc, self.connection):
                raise
            raise CannotDecide(f"the security policy failed: {shown(text_of(exc))}") from exc
        finally:
            for each in ours:
                del each.commit, each.abort


def _refuse_to_end(*_: Any) -> None:
    raise TransactionOver("a security policy must not end the transaction that it is asked in")
