# SPDX-License-Identifier: ZPL-2.1
"""Commands beside a running site that has its FileStorage open and runs its calls itself."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
from persistent.mapping import PersistentMapping
from webob import Request
from ZEO.ClientStorage import ClientStorage
from ZEO.scripts.zeopack import main as zeopack
from ZODB.blob import Blob
from ZODB.FileStorage import FileStorage

from wsgi_zasync import CallManagerMiddleware, ConfigurationError, get_manager
from wsgi_zasync.cli import main
from wsgi_zasync.cli.beside import beside_site
from wsgi_zasync.own_file import answers, socket_beside
from wsgi_zasync.settings import WorkerSettings
from wsgi_zasync.sharing import SharedFile, share
from wsgi_zasync.store.wakeup import signal_for
from wsgi_zasync.web.transactions import in_transaction
from wsgi_zasync.worker import Worker

SECONDS = 20


def double(attempt, number):
    """A plugin."""
    return 2 * number


def broken(attempt):
    """A plugin that fails."""
    raise ValueError("broken")


PLUGINS = {"double": double, "broken": broken}


class Site:
    """A site with an embedded worker, and its configuration file."""

    def __init__(self, directory: Path, query: str = "") -> None:
        self.file = directory / "Data.fs"
        self.ini = directory / "site.ini"
        self.ini.write_text(
            "[filter:zasync]\nuse = egg:wsgi_zasync\nworker = embedded\n"
            f"zodb_uri = file://{self.file}{query}\n"
            # For the embedded worker: it says nothing of a database.
            "[worker:main]\nuse = egg:wsgi_zasync#worker\ngrace = 5\n"
        )
        self.middleware = CallManagerMiddleware(
            self._answer, zodb_uri=f"file://{self.file}{query}", worker="embedded", plugins=PLUGINS
        )
        try:
            self.middleware.start()
        except BaseException:
            self.middleware.stop()
            raise

    def _answer(self, environ: Any, start_response: Any) -> list[bytes]:
        answer = self.work(get_manager(environ))
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(answer).encode()]

    def do(self, work: Any) -> Any:
        """What ``work`` returns, called with ann's call manager in a request."""
        self.work = work
        return Request.blank("/", environ={"REMOTE_USER": "ann"}).get_response(self.middleware).json

    def ended(self, call_id: str) -> str:
        """The state of a call once it has ended."""
        pause = threading.Event()
        for _ in range(100 * SECONDS):
            state = self.do(lambda calls: str(calls.get(call_id).state))
            if state not in ("waiting", "running"):
                return state
            pause.wait(0.01)
        raise AssertionError(f"call {call_id} did not end")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path)
    yield found
    found.middleware.stop()


def put(calls: Any, *args: Any, **options: Any) -> str:
    return calls.options(**options).put(*args).id


# -- looking and changing -----------------------------------------------------------------


def test_a_command_in_another_process_sees_the_calls_of_the_site(site):
    call_id = site.do(lambda calls: put(calls, "double", 21))
    site.ended(call_id)

    done = subprocess.run(
        [sys.executable, "-m", "wsgi_zasync", "show", str(site.ini), call_id, "--data", "--json"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )

    shown = json.loads(done.stdout)
    assert (shown["state"], shown["result"], shown["owner"]) == ("succeeded", 42, "ann")


def test_every_command_works_beside_the_site(site, capsys):
    done, failed = (
        site.do(lambda calls: put(calls, "double", 1)),
        site.do(lambda calls: calls.put("broken").on_any("path: no/such").id),
    )
    waits = site.do(lambda calls: put(calls, "double", 2, begin_after=3600))
    assert (site.ended(done), site.ended(failed)) == ("succeeded", "failed")

    for command, *ids in (
        ["check"], ["list"], ["status"], ["plugins"], ["show", done, failed, waits],
        ["cancel", waits], ["retry", failed], ["forget", done], ["prune"],
    ):  # fmt: skip
        assert main([command, str(site.ini), *ids]) == 0, capsys.readouterr().err

    out = capsys.readouterr().out
    assert "database: connected, 1 worker" in out
    assert f"{waits}: cancelled" in out
    # And the site sees what they did
    assert site.ended(waits) == "cancelled"
    assert site.do(lambda calls: done in calls) is False


def test_what_is_cancelled_by_a_command_stops_in_the_sites_own_worker(tmp_path):
    begun, stopped = threading.Event(), threading.Event()

    def patient(attempt):
        begun.set()
        while not attempt.is_cancelled:
            stopped.wait(0.01)
        stopped.set()

    PLUGINS["patient"] = patient
    site = Site(tmp_path)
    try:
        call_id = site.do(lambda calls: put(calls, "patient"))
        assert begun.wait(SECONDS)

        assert main(["cancel", str(site.ini), call_id]) == 0

        assert stopped.wait(SECONDS)
        assert site.ended(call_id) == "cancelled"
    finally:
        site.middleware.stop()
        del PLUGINS["patient"]


def test_a_worker_runs_calls_beside_the_site_and_the_site_sees_them_end(site):
    settings = WorkerSettings.from_kwargs(
        zodb_uri=f"file://{site.file}", serves="night", plugins=PLUGINS, secret="s" * 40
    )
    worker = Worker.from_settings(beside_site(settings))
    worker.start()
    try:
        call_id = site.do(lambda calls: put(calls, "double", 4, queue="night"))

        assert site.ended(call_id) == "succeeded"
        assert site.do(lambda calls: calls.get(call_id).result) == 8
    finally:
        worker.stop()


def test_the_command_runs_a_worker_beside_the_site_by_what_the_filter_says(site):
    (site.ini.parent / "more_plugins.py").write_text("def double(attempt, n):\n    return 2 * n\n")
    with site.ini.open("a") as file:
        file.write(
            "[worker:night]\nuse = egg:wsgi_zasync#worker\nserves = night\n"
            "[plugins]\ndouble = more_plugins:double\n"
        )
    worker = subprocess.Popen(
        [sys.executable, "-m", "wsgi_zasync", "worker", str(site.ini), "--section", "night"],
        cwd=site.ini.parent,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    try:
        call_id = site.do(lambda calls: put(calls, "double", 4, queue="night"))

        assert site.ended(call_id) == "succeeded"
    finally:
        worker.terminate()
        assert worker.wait(SECONDS) == 0


def test_a_running_site_is_packed_by_its_socket(site):
    calls = [site.do(lambda calls: put(calls, "double", 21)) for _ in range(5)]
    before = [site.ended(call_id) for call_id in calls]
    size = site.file.stat().st_size

    zeopack(["-u", str(socket_beside(site.file))])

    assert site.file.stat().st_size < size
    late = site.do(lambda calls: put(calls, "double", 4))
    assert [site.ended(call_id) for call_id in (*calls, late)] == [*before, "succeeded"]


def test_a_worker_without_a_database_leaves_the_file_to_a_site_that_does_not_run(site, capsys):
    site.middleware.stop()

    assert main(["worker", str(site.ini)]) == 2

    assert "which runs calls itself (worker = embedded) and is not running" in (
        capsys.readouterr().err
    )


def test_a_site_that_has_ended_leaves_its_file_to_others(tmp_path, capsys):
    site = Site(tmp_path)
    call_id = site.do(lambda calls: put(calls, "double", 1))
    site.ended(call_id)
    assert answers(socket_beside(site.file))

    site.middleware.stop()

    assert not socket_beside(site.file).exists()
    ZODB.DB(FileStorage(str(site.file))).close()
    (tmp_path / "away.ini").write_text(
        f"[filter:zasync]\nuse = egg:wsgi_zasync\nzodb_uri = file://{site.file}\n"
    )
    assert main(["list", str(tmp_path / "away.ini")]) == 0
    assert call_id in capsys.readouterr().out


def test_a_killed_sites_socket_is_in_nobodys_way(tmp_path):
    path = socket_beside(tmp_path / "Data.fs")
    path.parent.mkdir(0o755)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    assert path.exists()
    assert not answers(path)

    site = Site(tmp_path)
    try:
        assert answers(path)
        assert main(["list", str(site.ini)]) == 0
    finally:
        site.middleware.stop()


def test_a_path_that_is_too_long_for_a_socket_is_none_for_a_site(tmp_path):
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    site = Site(directory)
    try:
        assert main(["list", str(site.ini)]) == 0
    finally:
        site.middleware.stop()


def test_blobs_are_shared_as_well(tmp_path):
    site = Site(tmp_path, f"?blobstorage_dir={tmp_path}/blobs")
    try:
        settings = WorkerSettings.from_kwargs(
            zodb_uri=f"file://{site.file}?blobstorage_dir={tmp_path}/blobs", secret="s" * 40
        )
        db = beside_site(settings).db()
        with db.transaction() as connection:
            connection.root()["blob"] = Blob(b"written beside")
        db.close()

        def read(calls: Any) -> str:
            with calls.root["blob"].open() as blob:
                return blob.read().decode()

        assert site.do(read) == "written beside"
    finally:
        site.middleware.stop()


def test_who_serves_nothing_is_opened_as_ever(tmp_path):
    for uri in (f"file://{tmp_path}/Data.fs", "memory://", f"file://{tmp_path}/x?demostorage"):
        settings = WorkerSettings.from_kwargs(zodb_uri=uri)
        assert beside_site(settings) is settings


def test_a_database_that_is_served_already_is_not_served_twice(tmp_path):
    db = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")))
    first = share(db)
    try:
        assert len(first) == 1
        assert share(db) == []
        assert answers(first[0].path)
    finally:
        first[0].close()
        db.close()


# -- both sides commit --------------------------------------------------------------------


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """A database of this process, and one of a client of it."""
    here = ZODB.DB(FileStorage(str(tmp_path / "Data.fs")))
    with here.transaction() as connection:
        for name in "ab":
            connection.root()[name] = PersistentMapping(n=0)
    served = SharedFile(here, socket_beside(tmp_path / "Data.fs"))
    there = ZODB.DB(ClientStorage(str(served.path), wait_timeout=SECONDS))
    yield here, there
    there.close()
    served.close()
    here.close()


def test_each_side_sees_the_others_commits(both):
    here, there = both
    manager = transaction.TransactionManager(explicit=True)
    for writing, reading in ((here, there), (there, here)):
        manager.begin()
        connection = reading.open(transaction_manager=manager)
        before = connection.root()["a"]["n"]
        manager.abort()
        with signal_for(reading).watch(connection.root()["a"]._p_oid) as watch:
            with writing.transaction() as other:
                other.root()["a"]["n"] = before + 1

            # It is told of it, without looking
            assert watch.wait(SECONDS)

        manager.begin()
        assert connection.root()["a"]["n"] == before + 1
        manager.abort()
        connection.close()


def test_what_a_client_wrote_is_not_asked_for_from_the_file_here(both):
    here, there = both
    root = b"\0" * 8

    # There is nothing that would have to come from anywhere
    signal_for(here).fetch(frozenset({root}), there.lastTransaction())


def test_a_client_is_told_its_own_transaction_though_another_commits_at_once(both, monkeypatch):
    here, there = both
    inner = here.storage.tpc_finish
    committed = []

    def finish_and_have_another_commit(*args: Any) -> Any:
        monkeypatch.setattr(here.storage, "tpc_finish", inner)
        committed.append(inner(*args))
        with here.transaction() as connection:
            connection.root()["b"]["n"] += 1
        return committed[0]

    manager = transaction.TransactionManager(explicit=True)
    manager.begin()
    connection = there.open(transaction_manager=manager)
    changed = connection.root()["a"]
    changed["n"] += 1
    monkeypatch.setattr(here.storage, "tpc_finish", finish_and_have_another_commit)
    manager.commit()

    assert here.lastTransaction() > committed[0]
    assert changed._p_serial == committed[0]
    connection.close()


def test_no_update_of_either_side_is_lost(both):
    sides = (*both, *both)
    errors = []

    def increase(connection: Any, name: str) -> None:
        connection.root()[name]["n"] += 1

    def count(db: Any) -> None:
        try:
            for number in range(60):
                in_transaction(db, partial(increase, name="ab"[number % 2]), attempts=1000)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=count, args=(db,)) for db in sides]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not errors
    for db in both:
        with db.transaction() as connection:
            assert [connection.root()[name]["n"] for name in "ab"] == [120, 120]


# -- who may connect ----------------------------------------------------------------------


def test_the_sites_start_fails_where_its_socket_cannot_be_private(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    socket_beside(tmp_path / "Data.fs").parent.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError, match="remove what is there"):
        Site(tmp_path)

    assert not any((tmp_path / "elsewhere").iterdir())
