# SPDX-License-Identifier: ZPL-2.1
"""T14: secrets that were given to calls are found nowhere: not at rest, not shown, not logged."""

from __future__ import annotations

import json
import logging

import pytest
from ZODB import DB
from ZODB.FileStorage import FileStorage

from wsgi_zasync import Retry, RetryPolicy, Secret, plugin
from wsgi_zasync.opening import deployment_for, keys_for
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.testing import FakeClock, calls_of
from wsgi_zasync.worker import Worker

CANARIES = {
    name: f"canary-{name}-9f3a"
    for name in ("success", "failure", "retry", "cancel", "header", "waiting", "kwarg", "deep")
}


@plugin("use")
def use(attempt, how, secret, **more):
    value = secret.reveal()
    attempt.log.debug("used %s", secret)
    if how == "failure":
        raise ValueError(f"cannot log in with {value} at ldap://cn=x:{value}@host/")
    if how == "retry":
        raise Retry(f"later, says {value}") if attempt.number < 2 else OSError(repr(value))
    return {"length": len(value), "shown": str(secret)}


@plugin("fetch")
def fetch(attempt, url, headers):
    raise OSError(f"{url} refused {headers['X-Key'].reveal()}: {dict(headers)}")


@pytest.fixture
def world(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"k" * 40)
    secret.chmod(0o600)
    db = DB(FileStorage(str(tmp_path / "Data.fs")))
    clock = FakeClock()
    settings = WorkerSettings.from_kwargs(
        db=db, secret=f"file:{secret}", plugins={"use": use, "fetch": fetch}
    )
    deployment = deployment_for(settings, keys_for(settings, lambda: db), clock)
    worker = Worker.from_settings(settings, clock)
    yield db, deployment, worker, clock, tmp_path
    worker.stop()
    db.close()


def test_no_canary_is_in_the_file_the_json_or_the_log(world, caplog):
    db, deployment, worker, clock, directory = world
    caplog.set_level(logging.DEBUG)
    again = RetryPolicy(attempts=2)
    with calls_of(db, "ann", deployment) as calls:
        kept = {name: Secret(value) for name, value in CANARIES.items()}
        ids = [
            calls.put("use", how, kept[how]).on_any("string:${call/args} ${call/kwargs}").id
            for how in ("success", "failure")
        ]
        ids.append(calls.options(retry=again).put("use", "retry", kept["retry"]).id)
        ids.append(calls.put("use", "cancel", kept["cancel"]).id)
        ids.append(calls.put("fetch", "http://x/", {"X-Key": kept["header"]}).id)
        later = clock.now().replace(year=clock.now().year, month=12)
        ids.append(calls.options(begin_after=later).put("use", "x", kept["waiting"]).id)
        ids.append(calls.put("use", "success", secret=kept["kwarg"], more=[kept["deep"]]).id)
        calls.cancel(ids[3])
    shown = []

    def look():
        with calls_of(db, "ann", deployment) as calls:
            for call in calls.mine():
                shown.extend((repr(call.args), repr(call.kwargs), json.dumps(call.to_dict())))
                shown.extend((repr(call), repr(call._record.__dict__)))
                shown.append(str(call.callbacks))

    look()
    for _ in range(4):
        worker.run_once()
        clock.advance(3600)
    look()

    with calls_of(db, "ann", deployment) as calls:
        states = {call.id: str(call.state) for call in calls.mine()}
        assert [states[i] for i in ids] == [
            "succeeded", "failed", "failed", "cancelled", "failed", "waiting", "succeeded",
        ]  # fmt: skip
        # Erased when the call has ended, whatever it has become.
        for call_id in ids:
            record = calls.get(call_id)._record
            sealed = [v for v in (*record.args, *record.kwargs.values()) if hasattr(v, "content")]
            assert all((v.content == b"") == record.is_final for v in sealed)
    raw = b"".join(path.read_bytes() for path in directory.glob("Data.fs*") if path.is_file())
    seen = "\n".join([*shown, caplog.text, *(repr(r.__dict__) for r in caplog.records)])
    assert {name for name, value in CANARIES.items() if value.encode() in raw} == set()
    assert {name for name, value in CANARIES.items() if value in seen} == set()
    assert "***" in seen


def test_a_secret_is_closed_to_expressions(world):
    db, deployment, worker, *_ = world
    with calls_of(db, "ann", deployment) as calls:
        call = calls.put("use", "success", Secret("canary-closed"))
        call.on_success("python: call.args[1]").on_success("python: call.args[1].reveal()")
        from wsgi_zasync import InvalidArguments

        with pytest.raises(InvalidArguments):
            call.on_success("python: s", s=Secret("canary-bound"))

    worker.run_once()

    with calls_of(db, "ann", deployment) as calls:
        first, second = calls.get(call.id).callbacks
        assert first.value == "***"
        assert second.state == "failed"
