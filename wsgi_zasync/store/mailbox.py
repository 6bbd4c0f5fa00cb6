# SPDX-License-Identifier: ZPL-2.1
"""Mailboxes: what the web wants of a call after it was put.

A cancel, a late callback or a message is written here and not to the call's record, so that it
never conflicts with the completion of a call that may have run for hours. The calls of one segment
of an owner's index share one mailbox: only that owner's own requests can meet in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from persistent import Persistent

from ..call import CallRecord
from .reading import why_unreadable


@dataclass(frozen=True, slots=True)
class Mail:
    """What lies in the mailbox for one call."""

    #: Its owner or an operator wants it to stop.
    cancel_requested: bool = False
    #: Callbacks declared after the put, as plain data, in order.
    callbacks: tuple[tuple[Any, ...], ...] = ()
    #: Messages for a session call, in order, and how many were taken off the front.
    messages: tuple[Any, ...] = ()
    messages_taken: int = 0


_NOTHING = Mail()


class Mailbox(Persistent):
    """The mail of the calls of one index segment, by position."""

    def __init__(self) -> None:
        #: position -> Mail as a plain tuple
        self.mail: dict[int, tuple[Any, ...]] = {}

    def of(self, position: int) -> Mail:
        """What lies here for the call at ``position``."""
        plain = self.mail.get(position)
        return _NOTHING if plain is None else Mail(*plain)

    def write(self, position: int, mail: Mail) -> None:
        """Replace what lies here for the call at ``position``."""
        self.mail = {
            **self.mail,
            position: (mail.cancel_requested, mail.callbacks, mail.messages, mail.messages_taken),
        }

    def clear(self, position: int) -> None:
        """Throw away what lies here for the call at ``position``."""
        if position in self.mail:
            self.mail = {p: plain for p, plain in self.mail.items() if p != position}


def mail_for(record: CallRecord) -> Mail:
    """What the web wants of a call."""
    mailbox: Mailbox | None = record.mailbox
    return _NOTHING if mailbox is None else mailbox.of(record.place[2])


def owes(record: CallRecord) -> bool:
    """Whether a final call has callbacks that nobody has evaluated, or even seen, yet."""
    if record.pending_callbacks():
        return True
    return len(mail_for(record).callbacks) > record.late_callbacks


def is_over(record: CallRecord) -> bool:
    """Whether no worker has anything to do for a call any more, ever.

    It stays so: mail that the end of a call did not see was written before it, and what is owed
    to who asks for failed callbacks again is told to the workers anew.
    """
    if record.forgotten:
        return True
    if not record.is_final:
        return False
    mailbox = record.mailbox
    # One that cannot be read is found out where a call's mail is needed.
    return (mailbox is None or why_unreadable(mailbox) is None) and not owes(record)
