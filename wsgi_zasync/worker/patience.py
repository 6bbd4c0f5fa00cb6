# SPDX-License-Identifier: ZPL-2.1
"""How long it is tried to commit the end of a call together with its callbacks.

Callbacks that conflict again and again, or cannot be stored, must not keep an outcome from being
recorded: they follow it, and in the end they are given up, with the reason on the call.
"""

from __future__ import annotations

import logging

from transaction.interfaces import TransientError

from .held import Held
from .redaction import shown, text_of

logger = logging.getLogger(__name__)

#: Conflicts after which an outcome commits without its callbacks, and those after which the
#: callbacks, which followed alone, are recorded as failed. For a reason that is no conflict they
#: are recorded as failed after the first number.
PATIENCE = 3
LAST_PATIENCE = 20

#: Seconds between two tries to end a call that could not be ended even so, at most.
LONGEST_PAUSE = 60.0


def blame(held: Held, error: Exception) -> None:
    """Remember that this one could not be committed, alone as it was."""
    held.conflicts += 1
    if not isinstance(error, TransientError):
        if held.conflicts < PATIENCE:
            logger.warning("call %s is ended once more: %s", held.call_id, shown(named(error)))
        elif held.callbacks_error is None:
            held.callbacks_error = f"{shown(named(error))} (its effects were undone)"
        else:
            logger.error("call %s cannot be ended: %s", held.call_id, shown(named(error)))
    elif held.conflicts >= LAST_PATIENCE:
        held.callbacks_error = f"{shown(named(error))} ({held.conflicts} times)"
    elif held.conflicts >= PATIENCE:
        held.callbacks_later = True


def pause_seconds(held: Held) -> float:
    """How long to leave a call alone whose end could not be committed; 0: not at all."""
    hopeless = held.conflicts - LAST_PATIENCE
    return min(2.0**hopeless, LONGEST_PAUSE) if hopeless > 0 else 0.0


def named(error: Exception) -> str:
    """Kind and text of an error."""
    return f"{type(error).__name__}: {text_of(error)}"
