# SPDX-License-Identifier: ZPL-2.1
"""``zasync list``, ``show``, ``status`` and ``plugins``: read-only.

Arguments and results are users' data, and are shown only when they are asked for.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from dataclasses import dataclass
from itertools import islice
from threading import Event
from typing import Any

from persistent.timestamp import TimeStamp

from ..call import CallRecord, Failure, from_micros
from ..errors import CallNotFound
from ..lines import counted, owner_text
from ..states import CallState
from ..store.accepted import WorkerArea
from ..store.index import owner_of
from ..store.parking import count_without, unreadable
from ..store.reading import readable
from ..values import to_json
from .operating import Operation, Site, opened, refuse_unknown
from .output import ago, shown, table, tell

#: Seconds between two looks of ``status --watch``.
WATCH_SECONDS = 2.0

#: Characters of a note in a list.
NOTE = 60


def list_calls(given: Namespace) -> int:
    """``zasync list``."""

    def wanted(operation: Operation) -> list[dict[str, Any]]:
        found = (
            _facts(operation, record)
            for record in operation.records()
            if (given.plugin is None or record.plugin == given.plugin)
            and (given.owner is None or owner_text(record.owner) == given.owner)
        )
        matching = (f for f in found if given.state is None or f["state"] == given.state)
        return list(islice(matching, given.limit))

    with opened(given.file) as site:
        calls = site.look(wanted) if site.has_calls else []
    if given.json:
        for facts in calls:
            print(json.dumps(facts))
        return 0
    head = ("ID", "STATE", "PLUGIN", "OWNER", "CREATED", "NOTE")
    rows = [(f["id"], f["state"], f["plugin"], f["owner"], f["created"], _note(f)) for f in calls]
    print(table(head, rows) if rows else "no calls")
    return 0


def _note(facts: dict[str, Any]) -> str:
    said = facts["title"] or ""
    why = (facts["failure"] or {}).get("type") or facts["waiting_reason"]
    note = f"{said} ({why})".lstrip() if why else said
    return note if len(note) <= NOTE else note[: NOTE - 1] + "…"


def _facts(operation: Operation, record: CallRecord) -> dict[str, Any]:
    """All of a call but its data."""
    call = operation.call(record)
    facts = call.to_dict()
    del facts["links"], facts["result"]
    for callback, view in zip(facts["callbacks"], call.callbacks, strict=True):
        callback["text"] = view.text
        del callback["value"]
    facts["owner"] = owner_text(record.owner)
    for name in ("created", "due", "started", "finished"):
        if facts[name] is not None:
            facts[name] = f"{facts[name][:19]}Z"
    facts["queue"], facts["priority"] = call.queue, call.priority
    return facts


def show_calls(given: Namespace) -> int:
    """``zasync show``; one that is not there does not stop the others."""

    def look(operation: Operation) -> tuple[list[dict[str, Any]], list[CallNotFound]]:
        calls: list[dict[str, Any]] = []
        missing: list[CallNotFound] = []
        for id in given.id:
            try:
                record = operation.record(id)
            except CallNotFound as error:
                missing.append(error)
            else:
                calls.append(_everything(operation, record, given))
        return calls, missing

    with opened(given.file) as site:
        refuse_unknown(site, given.id[0])
        calls, missing = site.look(look)
    for number, facts in enumerate(calls):
        if given.json:
            print(json.dumps(facts))
            continue
        if number:
            print()
        for name, value in facts.items():
            if value not in (None, [], ""):
                _print_fact(name, value)
    for error in missing:
        tell(error)
    return 1 if missing else 0


def _everything(operation: Operation, record: CallRecord, given: Namespace) -> dict[str, Any]:
    facts = _facts(operation, record)
    if given.data:
        # As they are stored: an object that they refer to may be gone.
        for name in ("args", "kwargs", "result"):
            facts[name] = to_json(getattr(record, name))
    if given.traceback and record.failure is not None:
        facts["traceback"] = Failure.from_plain(record.failure).traceback_text
    return facts


def _print_fact(name: str, value: Any) -> None:
    if name == "traceback":
        print("traceback:")
        for line in value.splitlines():
            print(f"    {shown(line)}")
    elif name == "callbacks":
        for callback in value:
            error = f" – {callback['error']}" if callback["error"] else ""
            print(shown(f"on {callback['on']}: {callback['state']}: {callback['text']}{error}"))
    elif isinstance(value, (dict, list)):
        print(f"{name}: {shown(json.dumps(value, ensure_ascii=False))}")
    else:
        print(f"{name}: {shown(value)}")


# -- status -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShownWorker:
    """A worker as its board shows it."""

    name: str
    where: str
    beat: float
    queues: tuple[str, ...]
    released: bool
    held: int
    waiting: int
    #: (call id, plugin, owner, attempt, started, progress)
    running: tuple[tuple[str, str, str, int, float, str], ...]


def status(given: Namespace) -> int:
    """``zasync status``."""
    with opened(given.file) as site:
        _print_status(site)
        try:
            while given.watch:
                print(flush=True)
                Event().wait(WATCH_SECONDS)
                _print_status(site)
        except KeyboardInterrupt:
            pass  # it has been watched for long enough, whatever it was about to print
    return 0


def _print_status(site: Site) -> None:
    counts, workers = site.look(_status) if site.has_calls else (Counter(), [])
    print(_counts_text(site.settings.site, counts))
    if not workers:
        print("no workers: start one by zasync worker, or nothing runs")
    for worker in workers:
        print(_worker_text(worker, site.deployment.clock))


def _status(operation: Operation) -> tuple[Counter[str], list[ShownWorker]]:
    return _counts(operation), [_worker(operation, area) for area in _areas(operation)]


def _areas(operation: Operation) -> list[WorkerArea]:
    return sorted(operation.store.areas(), key=lambda area: area.key)


def _counts(operation: Operation) -> Counter[str]:
    store = operation.store
    lanes = [store.site.lanes[number] for number in store.claimed_lanes()]
    owners = {key for lane in lanes for key in lane.owners}
    tallies = [store.tally(owner_of(key)) for key in owners]
    counts = Counter(owners=len(owners), open=sum(tally.open for tally in tallies))
    for state in CallState:
        if state.is_final:
            counts[str(state)] = sum(tally.by_state[state] for tally in tallies)
    counts["unreadable"] = len(unreadable(store.site))
    workers = [area.publication for area in store.areas()]
    counts["parked"] = count_without(
        store.site,
        lambda plugin, queue: any(plugin in w.plugins and queue in w.queues for w in workers),
    )
    return counts


def _worker(operation: Operation, area: WorkerArea) -> ShownWorker:
    board = area.board
    board._p_activate()
    running = []
    for oid, (attempt, started, fraction, message) in board.running.items():
        record = readable(operation.store.connection, oid)
        if record is None:
            continue
        progress = "" if fraction is None else f"{fraction:.0%} "
        running.append(
            (
                record.id,
                record.plugin,
                owner_text(record.owner),
                attempt,
                from_micros(started).timestamp(),
                progress + message,
            )
        )
    return ShownWorker(
        name=area.name,
        where=f"{board.host}:{board.pid}",
        beat=TimeStamp(board._p_serial).timeTime(),
        queues=tuple(area.publication.queues),
        released=board.released,
        held=sum(len(chunk.calls) for chunk in area.chunks.values()),
        waiting=sum(len(tree) for tree in area.waiting),
        running=tuple(running),
    )


def _counts_text(site: str, counts: Counter[str]) -> str:
    ends = ", ".join(f"{counts[state]:,} {state}" for state in CallState if state.is_final)
    parked = f" ({counts['parked']:,} without a plugin)" if counts["parked"] else ""
    if counts["unreadable"]:
        parked += f" ({counts['unreadable']:,} that cannot be read)"
    owners = counted(counts["owners"], "owner")
    return f"site {shown(site)}: {counts['open']:,} open{parked}, {ends}, of {owners}"


def _worker_text(worker: ShownWorker, clock: Any) -> str:
    state = "released its calls" if worker.released else f"sign of life {ago(worker.beat, clock)}"
    lines = [
        shown(
            f"worker {worker.name} at {worker.where}: {state}, {len(worker.running)} running, "
            f"{worker.held} accepted, {worker.waiting} waiting for a time, "
            f"queues {' '.join(worker.queues)}"
        )
    ]
    for call_id, plugin, owner, attempt, started, progress in worker.running:
        lines.append(
            shown(
                f"  {call_id}  {plugin}  {owner}  attempt {attempt}  {ago(started, clock)}  "
                f"{progress}"
            ).rstrip()
        )
    return "\n".join(lines)


# -- plugins ----------------------------------------------------------------------------------


def plugins(given: Namespace) -> int:
    """``zasync plugins``."""
    with opened(given.file) as site:
        registry = site.deployment.registry
        rows: list[tuple[object, ...]] = []
        for name in sorted(registry.names()):
            found = registry.declaration(name)
            target = found.target if isinstance(found.target, str) else _dotted(found.target)
            timeout = "" if found.timeout is None else f"{found.timeout:g} s"
            rows.append((name, found.runs, timeout, found.permission or "", target))
        known = set(registry.names())
        published = (
            site.look(lambda o: sorted(o.store.published()))
            if site.has_database and site.has_calls
            else []
        )
    rows += [(name, "", "", "", "(workers only)") for name in published if name not in known]
    print(table(("NAME", "RUNS", "TIMEOUT", "PERMISSION", "WHERE"), rows))
    return 0


def _dotted(target: Any) -> str:
    return f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', target)}"
