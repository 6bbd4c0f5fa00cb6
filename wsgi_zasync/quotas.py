# SPDX-License-Identifier: ZPL-2.1
"""How much an owner may have, a call may hold, and a chain of calls may grow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Quotas:
    """Limits, each a configuration key; over any of them nothing is written.

    The defaults let a person work and keep a loop from filling the disk.
    """

    #: Calls of one owner that are not final.
    open_calls: int = 1_000
    #: Calls of one owner in all.
    stored_calls: int = 10_000
    #: Bytes of arguments, results and callbacks of one owner's calls.
    stored_bytes: int = 100_000_000
    #: Bytes of one call's arguments and bound names.
    argument_bytes: int = 64_000
    #: Bytes of one call's result.
    result_bytes: int = 1_000_000
    #: Callbacks of one call.
    callbacks: int = 16
    #: How often the failed callbacks of one call may be asked for again.
    callback_retries: int = 10
    #: How deep calls may put calls.
    depth: int = 8
    #: How many calls may descend from one.
    descendants: int = 1_000
