# SPDX-License-Identifier: ZPL-2.1
"""Uses of the public API as applications write them; mypy checks this file, nothing runs it.

An ignored line is a use that has to be refused: where mypy accepts it, the ignore is unused
and the check fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIEnvironment

from wsgi_zasync import (
    Call,
    CallFailed,
    CallManager,
    CallManagerMiddleware,
    CallNotFinal,
    CallState,
    Failure,
    Principal,
    Retry,
    RetryPolicy,
    Secret,
    SecurityPolicy,
    Unauthorized,
    expose,
    get_manager,
    plugin,
)

if TYPE_CHECKING:
    from wsgi_zasync.worker.attempt import Attempt


@expose("title", publish="edit")
class Document:
    """A class of the application that expressions may use."""

    title = "Untitled"

    def publish(self) -> None:
        """Needs the permission edit."""


class Policy:
    """A policy needs no base class of ours."""

    def principal_now(self, principal: Principal, root: Any, /) -> Principal:
        """The user as the application knows it now."""
        if principal.id not in root["users"]:
            raise Unauthorized(f"{principal.id} is gone")
        return principal

    def allows(self, principal: Any, permission: str, object: Any, /) -> bool:
        """Editors edit."""
        return permission == "edit" and "editor" in principal.roles

    def root_for(self, principal: Principal, root: Any, /) -> Any:
        """Everybody gets the application."""
        return root["application"]


policy: SecurityPolicy = Policy()


@plugin("report.render", runs="transaction", timeout=60, retry=RetryPolicy(attempts=3))
def render(attempt: Attempt, year: int, *, draft: bool = False) -> dict[str, int]:
    """A plugin keeps its own type."""
    if draft:
        raise Retry("the draft is not there yet", delay=timedelta(minutes=5))
    attempt.progress(0.5, "half of it")
    return {"pages": year}


def test_render(attempt: Attempt) -> dict[str, int]:
    """So that a test can call it."""
    attempt.progres(0.5)  # type: ignore[attr-defined]
    return render(attempt, 2026)


@plugin("wrong", runs="nowhere")  # type: ignore[arg-type]
def wrong(attempt: Any) -> None:
    """There is no such place to run."""


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """A request that asks for calls."""
    calls: CallManager = get_manager(environ)
    call: Call = calls.put("http.get", "https://example.org/feed", headers={"Accept": "*/*"})
    call.on_success("python: feeds.update(name, result)", feeds=object(), name="news").on_failure(
        "string:${user/id} could not read ${call/id}: ${failure/message}"
    )
    later = calls.options(begin_after=timedelta(hours=1), priority="low", unique="report")
    calls.options(priorty="low")  # type: ignore[call-arg]
    calls.options(priority="urgent", timeout="5 min")  # type: ignore[arg-type]
    later.put("report.render", 2026, password=Secret("hunter2"))
    start_response("202 Accepted", [("Location", f"/_zasync/calls/{call.id}")])
    return [call.id.encode()]


def page(calls: CallManager) -> list[Mapping[str, Any]]:
    """A page that shows them."""
    calls.principal = Principal("ann", "members", roles=("editor",))
    shown = [call.to_dict() for call in calls.mine(state=CallState.FAILED, limit=10)]
    if "an id" in calls:
        calls.cancel("an id")
    return [*shown, {"open": calls.count(CallState.WAITING)}]


def outcome(call: Call) -> str:
    """What became of a call."""
    try:
        return str(call.result)
    except CallNotFinal:
        return call.waiting_reason or str(call.state)
    except CallFailed as error:
        failure: Failure | None = error.failure
        error.failure.message  # type: ignore[union-attr]
        return "?" if failure is None else failure.message


wrapped = CallManagerMiddleware(application, zodb_uri="file://Data.fs", worker="embedded")

Principal(5)  # type: ignore[arg-type]
RetryPolicy(delay_seconds=timedelta(minutes=1), on=[TimeoutError, "ldap.SERVER_DOWN"])
RetryPolicy(delay_seconds="1 min")  # type: ignore[arg-type]
RetryPolicy(3)  # type: ignore[call-arg]
Secret(5)  # type: ignore[arg-type]
