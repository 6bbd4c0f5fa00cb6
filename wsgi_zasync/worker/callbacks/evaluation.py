# SPDX-License-Identifier: ZPL-2.1
"""Evaluates the callback expressions of calls that have ended, as their owners.

Transaction: the one that records the outcome, or a later one if that has to do without. Each
callback has a savepoint before it, and one after it that makes ZODB serialise what it changed,
so that what cannot be stored fails there and takes nothing else with it.
User: the call's owner with the authority of now, read in this transaction; where the text was
written by a user, every permission is required of that author too.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from transaction.interfaces import TransientError

from ...call import CallRecord
from ...callbacks import Callback
from ...deployment import Deployment
from ...errors import InvalidArguments, ResourceLimit, TransactionOver, Unauthorized
from ...expressions import CannotDecide, Limits, compile_expression
from ...security import AnotherPrincipal, Principal
from ...store.index import owner_key
from ...values import Storing
from ..desk import Writing, is_foreign, serialise
from ..redaction import shown, text_of
from .authority import Authority, Deciding, principal_of
from .names import CallbackNames
from .savepoint import Savepoint

#: Bytes of a callback's value that are kept.
MAX_VALUE_BYTES = 1_000

#: Steps of a brief evaluation: about a tenth of a millisecond, and some hundred times what a
#: typical callback takes.
BRIEF_STEPS = 2_000

#: How many texts are known that have taken long.
KNOWN_TEXTS = 1_000


class TakesLong(Exception):
    """The callback is not done within a brief evaluation: not in this thread."""


class Undecided(Exception):
    """Nobody can say now what the owner may do: the callbacks that are left have to wait."""


class _OwnerGone(Unauthorized):
    """The owner is no more, by the time that the call has ended."""


class Evaluation:
    """Evaluates callbacks for one worker; used by each of its committing threads."""

    def __init__(
        self,
        deployment: Deployment,
        limits: Limits,
        give_way: Callable[[], None] | None = None,
    ) -> None:
        """Keep what all evaluations share.

        Args:
            deployment: What the process knows.
            limits: What a callback may use.
            give_way: Called now and then by an evaluation that is not a brief one.
        """
        self._deployment = deployment
        #: The same for the puts of callbacks.
        self._deciding = replace(deployment, policy=Deciding(deployment.policy))
        self._limits = limits
        self._brief = replace(limits, steps=min(BRIEF_STEPS, limits.steps))
        self._give_way = give_way
        #: The texts that have taken long, as the keys.
        self._long: OrderedDict[str, None] = OrderedDict()

    def evaluate(self, writing: Writing, record: CallRecord, *, brief: bool = False) -> int:
        """Evaluate what is pending of a final call; returns how many failed.

        Args:
            brief: Whether others wait for this thread.

        Raises:
            TransactionOver: Exposed code has ended the transaction, or what it raised then.
            TakesLong: It is more than others may be made to wait for. What was evaluated is
                to be undone.
            Undecided: Those left are pending still.
            TransientError: The transaction has to be done again.
        """
        failed = 0
        for index in record.pending_callbacks():
            ended = self._evaluated(writing, record, record.all_callbacks()[index], brief)
            callbacks = record.all_callbacks()
            callbacks[index] = ended
            record.set_callbacks(callbacks)
            failed += ended.error is not None
        return failed

    def _evaluated(
        self, writing: Writing, record: CallRecord, callback: Callback, brief: bool
    ) -> Callback:
        if brief and callback.text in self._long:
            raise TakesLong
        policy, clock = self._deployment.policy, self._deployment.clock
        authority = Authority(policy, writing.connection)
        before = Savepoint(writing, self._deployment)
        try:
            owner = _owner_now(authority, record, writing.root)
            author = None
            if callback.author is not None:
                author = authority.principal_now(principal_of(callback.author), writing.root)
            names = CallbackNames(self._deciding, writing, record, owner, author)
            root = _shared_root(authority, owner, author, writing.root)
            value = compile_expression(callback.text).evaluate(
                names.of(callback, root),
                principal=owner,
                policy=policy,
                author=author,
                limits=self._brief if brief else self._limits,
                clock=clock,
                give_way=None if brief else self._give_way,
            )
            if not writing.is_current():
                raise TransactionOver("exposed code has ended the worker's transaction")
            serialise(writing)
            return callback.done(_kept(value))
        except Exception as exc:
            if not writing.is_current():
                # Nobody knows what became of all that was in it.
                raise
            if isinstance(exc, ResourceLimit):
                self._remember(callback.text)
                if brief:
                    raise TakesLong from exc
            again = _transient_behind(exc)
            if again is not None and not is_foreign(again, writing.connection):
                raise again from exc
            before.rollback()
            if isinstance(exc, _OwnerGone):
                mark_gone(writing, record, clock.micros())
            if again is not None or isinstance(exc, CannotDecide):
                raise Undecided(_said(exc.__cause__ or exc)) from exc
            return callback.failed(_said(exc))

    def _remember(self, text: str) -> None:
        """Try this text in no brief evaluation any more."""
        self._long[text] = None
        while len(self._long) > KNOWN_TEXTS:
            self._long.popitem(last=False)


def _owner_now(authority: Authority, record: CallRecord, root: Any) -> Principal:
    try:
        return authority.principal_now(principal_of(record.owner, record.owner_title), root)
    except AnotherPrincipal:
        raise
    except Unauthorized as exc:
        raise _OwnerGone(str(exc)) from exc


def _shared_root(
    authority: Authority, owner: Principal, author: Principal | None, root: Any
) -> Any:
    """The object that is ``root`` for the owner, and for the author too where there is one."""
    found = authority.root_for(owner, root)
    if author is not None and found is not None:
        # What only the owner may walk through is no place for a text of somebody else.
        return found if authority.root_for(author, root) is found else None
    return found


def mark_gone(writing: Writing, record: CallRecord, now: int) -> None:
    """Note that the policy knows the owner no more.

    Whoever comes later under the same name does not get what this owner had: neither what was put
    by a host whose clock is ahead, nor what was since the last owner of that name was gone.
    """
    newest = next(writing.store.newest(record.owner), None)
    if newest is not None:
        writing.store.site.gone[owner_key(record.owner)] = max(now, newest.created)


def _transient_behind(error: BaseException | None) -> TransientError | None:
    """The conflict or lost connection that an error came of, if it did."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, TransientError):
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None


def _kept(value: Any) -> Any:
    try:
        return Storing(max_bytes=MAX_VALUE_BYTES).stored(value, "value")
    except InvalidArguments:
        return None  # too large, or an object: a value is kept when small and plain


def _said(error: BaseException) -> str:
    text = shown(text_of(error))
    kind = Unauthorized if isinstance(error, Unauthorized) else type(error)
    return f"{kind.__name__}: {text}" if text else kind.__name__
