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
from functools import lru_cache
from typing import Any

from transaction.interfaces import TransientError

from ..call import CallRecord
from ..callbacks import Callback
from ..deployment import Deployment
from ..errors import InvalidArguments, ResourceLimit, Unauthorized
from ..expressions import CannotDecide, Limits, compile_expression
from ..ports import SecurityPolicy
from ..security import Principal
from ..states import CallState
from ..store.index import owner_key
from ..values import Storing, masked, restored
from .access import names_to_act
from .desk import Writing, is_foreign, serialise
from .redaction import shown, text_of
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
    """Nobody can say now what the owner may do: what was asked for has to wait."""


class AnotherPrincipal(Unauthorized):
    """The policy mistakes one for another: nothing is allowed, but nobody is gone either."""


class _OwnerGone(Unauthorized):
    """The owner is no more, by the time that the call has ended."""


def owner_of(record: CallRecord) -> Principal:
    """The owner of a call as it was put, without any authority."""
    return _owner(record.owner, record.owner_title)


#: Who puts one call puts others, and a principal is checked as it is made.
@lru_cache(maxsize=1024)
def _owner(owner: tuple[str, str], title: str | None) -> Principal:
    source, identifier = owner
    return Principal(identifier, source, title=title)


def authority_now(policy: SecurityPolicy, principal: Principal, root: Any) -> Principal:
    """The principal with the authority of this transaction.

    Raises:
        Unauthorized: The principal is gone or disabled.
        Undecided: The policy cannot tell.
    """
    found: Principal = _answer(policy.principal_now, principal, root)
    if found.owner != principal.owner:
        raise AnotherPrincipal(f"the policy gave another principal for {principal.owner!r}")
    return found


def author_now(policy: SecurityPolicy, author: tuple[str, str], root: Any) -> Principal:
    """Who wrote a text, with the authority of this transaction; raises as ``authority_now``."""
    return authority_now(policy, _owner(author, None), root)


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
        before = Savepoint(writing, self._deployment)
        try:
            owner = self._owner_now(writing, record)
            author = None
            if callback.author is not None:
                author = author_now(policy, callback.author, writing.root)
            names = self._names(writing, record, callback, owner, author)
            value = compile_expression(callback.text).evaluate(
                names,
                principal=owner,
                policy=policy,
                author=author,
                limits=self._brief if brief else self._limits,
                clock=clock,
                give_way=None if brief else self._give_way,
            )
            serialise(writing)
            return callback.done(_kept(value))
        except Exception as exc:
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
            if again is not None or isinstance(exc, Undecided | CannotDecide):
                raise Undecided(_said(exc.__cause__ or exc)) from exc
            return callback.failed(_said(exc))

    def _remember(self, text: str) -> None:
        """Try this text in no brief evaluation any more."""
        self._long[text] = None
        while len(self._long) > KNOWN_TEXTS:
            self._long.popitem(last=False)

    def _owner_now(self, writing: Writing, record: CallRecord) -> Principal:
        try:
            return authority_now(self._deployment.policy, owner_of(record), writing.root)
        except AnotherPrincipal:
            raise
        except Unauthorized as exc:
            raise _OwnerGone(str(exc)) from exc

    def _names(
        self,
        writing: Writing,
        record: CallRecord,
        callback: Callback,
        owner: Principal,
        author: Principal | None,
    ) -> dict[str, Any]:
        connection = writing.store.connection
        names = dict(self._deployment.exposed)
        names |= names_to_act(self._deployment, writing, record, owner, author)
        names |= {
            name: restored(value, connection, masked) for name, value in callback.names.items()
        }
        if record.state == CallState.SUCCEEDED:
            names["result"] = restored(record.result, connection, masked)
        names["user"] = owner
        root = _answer(self._deployment.policy.root_for, owner, writing.root)
        if author is not None and root is not None:
            # What only the owner may walk through is no place for a text of somebody else.
            theirs = _answer(self._deployment.policy.root_for, author, writing.root)
            root = root if theirs is root else None
        names["root"] = root
        names["now"] = self._deployment.clock.now()
        return names


def _answer(ask: Callable[[Principal, Any], Any], principal: Principal, root: Any) -> Any:
    """What the policy says; only ``Unauthorized`` is a no, anything else is no answer."""
    try:
        return ask(principal, root)
    except (Unauthorized, KeyboardInterrupt):
        raise
    except BaseException as exc:
        # SystemExit too: it would end a thread of the worker, and say nothing.
        if isinstance(exc, TransientError) and not is_foreign(exc, root._p_jar):
            raise
        raise Undecided(f"the security policy failed: {shown(text_of(exc))}") from exc


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
