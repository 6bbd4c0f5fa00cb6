# SPDX-License-Identifier: ZPL-2.1
"""A call as JSON: what its owner is shown by the page and by the addresses that are polled.

Neither arguments nor tracebacks are in it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..values import to_json

if TYPE_CHECKING:
    from ..call import CallRecord
    from ..callbacks import Callback
    from .view import Call


def as_json(
    call: Call, record: CallRecord, callbacks: list[Callback], base_path: str
) -> dict[str, Any]:
    """The call as plain JSON data.

    Args:
        call: The call.
        record: Of the call.
        callbacks: All of them, late ones included.
        base_path: What links to calls begin with.
    """
    failure = call.failure
    here = f"{base_path}/calls/{call.id}"
    return {
        "id": call.id,
        "plugin": call.plugin,
        "title": call.title,
        "owner": {"id": record.owner[1], "source": record.owner[0]},
        "state": str(call.state),
        "waiting_reason": call.waiting_reason,
        "created": _iso(call.created),
        "due": _iso(call.due),
        "started": _iso(call.started),
        "finished": _iso(call.finished),
        "attempts": call.attempts,
        "progress": call.progress._asdict(),
        "result": to_json(record.result),
        "failure": None
        if failure is None
        else {
            "type": failure.type,
            "message": failure.message,
            "attempt": failure.attempt,
            "when": _iso(failure.when),
        },
        "callbacks": [
            {"on": c.on, "state": str(c.state), "value": to_json(c.value), "error": c.error}
            for c in callbacks
        ],
        "callbacks_failed": call.callbacks_failed,
        "cancel_requested": call.cancel_requested,
        "links": {"self": here, "result": f"{here}/result", "cancel": f"{here}/cancel"},
    }


def _iso(when: datetime | None) -> str | None:
    return None if when is None else when.isoformat().replace("+00:00", "Z")
