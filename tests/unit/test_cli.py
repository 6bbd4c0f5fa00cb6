# SPDX-License-Identifier: ZPL-2.1
"""The command zasync, run in this process on a FileStorage."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import ZODB
from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage

from wsgi_zasync import CallManagerMiddleware, ConfigurationError, get_manager
from wsgi_zasync.cli import looking, main, working
from wsgi_zasync.cli.demo import _own_copy
from wsgi_zasync.cli.logs import JSONFormatter, TextFormatter
from wsgi_zasync.cli.operating import opened, worker_settings
from wsgi_zasync.cli.output import ago, shown, table
from wsgi_zasync.cli.signals import on_stop
from wsgi_zasync.clock import SystemClock
from wsgi_zasync.configuration.paste_file import ConfigFile
from wsgi_zasync.store import open_store
from wsgi_zasync.testing import FakeClock
from wsgi_zasync.values import WeakReference
from wsgi_zasync.worker import Worker
from wsgi_zasync.worker.service import Service

ROOT = Path(__file__).resolve().parents[2]

SITE = """
[filter:zasync]
use = egg:wsgi_zasync
zodb_uri = file://%(here)s/Data.fs
"""

ESCAPE = "\x1b[31mred\u202e"


def divide(attempt, number):
    """Something that can fail."""
    return 12 / number


PLUGINS = {"test.divide": divide}


def in_process(*arguments, encoding="", unbuffered="", **options):
    """A command in a process of its own, for what becomes of its output."""
    command = [sys.executable, "-m", "wsgi_zasync", *map(str, arguments)]
    # Whatever the tests' own process has: what is buffered is what is left to write at the end.
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": encoding}
    return subprocess.run(command, cwd=ROOT, env=env, **options)


@contextmanager
def closed_pipe():
    """Somewhere to write to where nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as out:
        yield out


@pytest.fixture
def site(tmp_path):
    """A site whose database holds calls of ann and bob; the path of its file."""
    path = tmp_path / "site.ini"
    path.write_text(SITE)
    return path


@pytest.fixture
def put(site):
    """Puts a call as a request does; returns its id."""

    def put(user, number=3, expression=None, **options):
        made = []

        def application(environ, start_response):
            call = get_manager(environ).options(**options).put("test.divide", number)
            if expression is not None:
                call.on_success(expression)
            made.append(call.id)
            start_response("200 OK", [])
            return [b"done"]

        db = ZODB.DB(FileStorage(str(site.parent / "Data.fs")))
        wrapped = CallManagerMiddleware(application, db, plugins=PLUGINS)
        wrapped({"REQUEST_METHOD": "GET", "PATH_INFO": "/", "REMOTE_USER": user}, lambda *_: None)
        wrapped.stop()
        db.close()
        return made[0]

    return put


@pytest.fixture
def run_calls(site):
    """Runs what waits."""

    def run_calls():
        db = ZODB.DB(FileStorage(str(site.parent / "Data.fs")))
        worker = Worker(db, plugins=PLUGINS)
        ended = worker.run_once()
        worker.stop()
        db.close()
        return ended

    return run_calls


def test_list_shows_every_owners_calls_newest_first(site, put, capsys):
    anns, bobs = put("ann", title="first"), put("bob", title="second")

    assert main(["list", str(site)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["ID", bobs, anns]
    assert lines[1].split()[1:4] == ["waiting", "test.divide", "bob"]
    assert lines[1].endswith("second")


def test_list_can_be_narrowed_and_be_read_by_programs(site, put, run_calls, capsys):
    put("ann")
    failed = put("ann", 0)
    run_calls()

    main(["list", str(site), "--state", "failed", "--json"])

    (line,) = capsys.readouterr().out.splitlines()
    facts = json.loads(line)
    assert facts["id"] == failed
    assert facts["failure"]["type"] == "ZeroDivisionError"
    assert "result" not in facts
    for narrow in (["--owner", "bob"], ["--plugin", "no.such"], ["--state", "expired"]):
        main(["list", str(site), *narrow])
        assert capsys.readouterr().out == "no calls\n"


def test_why_a_call_failed_stands_below_its_head(site, put, run_calls, capsys):
    put("ann", 0)
    run_calls()

    assert main(["list", str(site)]) == 0

    head, line = capsys.readouterr().out.splitlines()
    assert line[head.index("NOTE") :] == "(ZeroDivisionError)"


def test_what_a_closing_zeo_client_logs_is_none_of_our_output(tmp_path):
    # In a process without logging, as the command's own is
    program = (
        "import logging, sys; from wsgi_zasync.cli import main; code = main(sys.argv[1:]); "
        "logging.getLogger('ZEO.asyncio.client').error('Exception for prefetch'); sys.exit(code)"
    )
    path = tmp_path / "site.ini"
    path.write_text(SITE)
    command = [sys.executable, "-c", program, "check", str(path)]

    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stderr) == (0, "")


def test_what_a_terminal_would_obey_is_printed_escaped(site, put, capsys):
    call = put("ann", title=ESCAPE)

    main(["list", str(site)])
    main(["show", str(site), call])
    main(["show", str(site), ESCAPE])

    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "\u202e" not in out + err
    assert r"\x1b[31mred\u202e" in out


def test_show_gives_data_and_traceback_only_when_asked(site, put, run_calls, capsys):
    call = put("ann", 0)
    run_calls()

    main(["show", str(site), call])
    short = capsys.readouterr().out
    main(["show", str(site), call, "--data", "--traceback"])
    long = capsys.readouterr().out

    assert "ZeroDivisionError" in short
    assert "Traceback" not in short
    assert "args" not in short
    assert "Traceback (most recent call last)" in long
    assert "args: [0]" in long


def test_a_call_is_shown_although_an_object_that_it_refers_to_is_not_there(site, put, capsys):
    call = put("ann")
    with opened(site) as found, found.database.transaction() as connection:
        record = open_store(connection).find(("", "ann"), call)
        record.args = (WeakReference("elsewhere", b"\0" * 8, "my_site.reports.Report"),)

    assert main(["show", str(site), call, "--data"]) == 0

    assert 'args: [{"$ref": "my_site.reports.Report"}]' in capsys.readouterr().out


def test_cancel_ends_a_waiting_call_and_says_what_it_did(site, put, capsys):
    call = put("ann")

    assert main(["cancel", str(site), call]) == 0
    assert main(["cancel", str(site), call]) == 0

    assert capsys.readouterr().out == f"{call}: cancelled\n{call}: was cancelled already\n"


def test_a_change_says_in_the_database_who_made_it(site, put):
    call = put("ann")
    main(["cancel", str(site), call])

    storage = FileStorage(str(site.parent / "Data.fs"), read_only=True)
    try:
        last = list(storage.iterator())[-1]
        assert last.description == f"zasync cancel {call}".encode()
        assert last.user.startswith(b"operator ")
    finally:
        storage.close()


def test_a_user_who_has_no_name_can_change_calls(site, put, monkeypatch, capsys):
    call = put("ann")
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)

    assert main(["cancel", str(site), call]) == 0

    assert capsys.readouterr().out == f"{call}: cancelled\n"
    with open(site.parent / "Data.fs", "rb") as file:
        assert b"operator uid 54321" in file.read()


def test_one_unknown_call_does_not_keep_the_others_from_being_changed(site, put, capsys):
    call = put("ann")

    assert main(["cancel", str(site), "no-such-call", call]) == 1

    out, err = capsys.readouterr()
    assert out == f"{call}: cancelled\n"
    assert err == "zasync: there is no call 'no-such-call' in site 'main' of this store\n"


def test_one_unknown_call_does_not_keep_the_others_from_being_shown(site, put, capsys):
    first, second = put("ann"), put("bob")

    assert main(["show", str(site), first, "no-such-call", second, "--json"]) == 1

    out, err = capsys.readouterr()
    assert [json.loads(line)["id"] for line in out.splitlines()] == [first, second]
    assert err == "zasync: there is no call 'no-such-call' in site 'main' of this store\n"


def damage(site, find):
    """Overwrite an object of the store, found by the given function, with what is no record."""
    storage = FileStorage(str(site.parent / "Data.fs"))
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        oid = find(open_store(connection))._p_oid
    transaction = TransactionMetaData()
    storage.tpc_begin(transaction)
    storage.store(oid, storage.load(oid)[1], b"damaged", "", transaction)
    storage.tpc_vote(transaction)
    storage.tpc_finish(transaction)
    db.close()


def test_a_part_of_an_index_that_cannot_be_read_hides_no_other_call(
    site, put, run_calls, capsys, caplog
):
    lost, kept, others = put("ann"), put("ann", keep=0.001), put("bob", keep=0.001)
    # Given that what lists the first of ann's calls is damaged
    run_calls()

    def first_of_anns(store):
        lane, number, _ = store.find(("", "ann"), lost).place
        return store.site.lanes[lane].owners["\0ann"].segments[number]

    damage(site, first_of_anns)

    # When the operator looks, and prunes
    assert main(["list", str(site)]) == 0
    assert main(["status", str(site)]) == 0
    assert main(["show", str(site), lost]) == 1
    assert main(["prune", str(site)]) == 0

    # Then all others are there
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["ID", others, kept]
    assert "of 2 owners" in out
    assert "2 calls forgotten" in out
    assert err == f"zasync: there is no call {lost!r} in site 'main' of this store\n"


def test_a_record_that_cannot_be_read_hides_no_other_call(site, put, capsys, caplog):
    calls = [put("ann") for _ in range(3)]
    # Given that the middle one is damaged
    damage(site, lambda store: store.find(("", "ann"), calls[1]))

    # When the others are looked for
    codes = [main(["list", str(site)]), main(["cancel", str(site), *calls])]

    # Then they are there
    out, err = capsys.readouterr()
    assert codes == [0, 1]
    assert [line.split()[0] for line in out.splitlines()[:3]] == ["ID", calls[2], calls[0]]
    assert out.splitlines()[3:] == [f"{calls[0]}: cancelled", f"{calls[2]}: cancelled"]
    assert err == f"zasync: there is no call {calls[1]!r} in site 'main' of this store\n"


def test_an_id_of_bytes_that_are_no_text_is_told_in_one_line(site, put, capsys):
    place = put("ann").partition("-")[0]

    assert main(["show", str(site), f"{place}-\udcff"]) == 1

    assert capsys.readouterr().err.startswith("zasync: there is no call ")


def test_only_ended_calls_are_forgotten(site, put, run_calls, capsys):
    call = put("ann")

    assert main(["forget", str(site), call]) == 1
    run_calls()
    assert main(["forget", str(site), call]) == 0
    assert main(["show", str(site), call]) == 1

    assert capsys.readouterr().out == f"{call}: forgotten\n"


def test_retry_has_failed_callbacks_evaluated_again(site, put, run_calls, capsys):
    call = put("ann", 3, "python: 1 / 0")
    run_calls()

    assert main(["retry", str(site), call]) == 0
    assert capsys.readouterr().out == f"{call}: 1 callback to be evaluated again\n"
    main(["show", str(site), call, "--json"])
    assert json.loads(capsys.readouterr().out)["callbacks"][0]["state"] == "pending"
    run_calls()
    main(["show", str(site), call, "--json"])
    assert json.loads(capsys.readouterr().out)["callbacks"][0]["state"] == "failed"


def test_retry_says_where_there_is_nothing_to_retry(site, put, run_calls, capsys):
    call = put("ann", 3, "string:fine")
    run_calls()

    assert main(["retry", str(site), call]) == 1
    assert capsys.readouterr().err == f"zasync: call {call!r} has no failed callback to retry\n"


def test_prune_erases_what_was_kept_long_enough(site, put, run_calls, capsys):
    put("ann", keep=0.001)
    kept = put("ann")
    run_calls()

    assert main(["prune", str(site), "--dry-run"]) == 0
    assert main(["prune", str(site)]) == 0
    main(["list", str(site)])

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 call would be forgotten"
    assert lines[1].startswith("1 call forgotten")
    assert [line.split()[0] for line in lines[3:]] == [kept]


def test_status_counts_and_names_the_workers(site, put, run_calls, capsys):
    put("ann")
    put("bob", 0)
    run_calls()
    put("bob")

    assert main(["status", str(site)]) == 0

    out = capsys.readouterr().out
    assert "site main: 1 open, 1 succeeded, 1 failed, 0 cancelled, 0 expired, of 2 owners" in out


def test_status_shows_what_a_worker_runs_and_how_far_that_is(site, put, run_calls, capsys):
    put("bob")
    run_calls()
    running = put("ann")
    # Given a worker that is at work, as its board says
    db = ZODB.DB(FileStorage(str(site.parent / "Data.fs")))
    with db.transaction() as connection:
        store = open_store(connection)
        (area,) = store.areas()
        (record,) = store.newest(("", "ann"))
        started = SystemClock().micros() - 60_000_000
        area.board.host, area.board.pid, area.board.released = "here", 12, False
        area.board.running = {
            record._p_oid: (2, started, 0.25, f"a quarter {ESCAPE}"),
            b"\x7f" * 8: (1, started, None, "of a call that is forgotten"),
        }
        name = area.name
    db.close()

    assert main(["status", str(site)]) == 0

    out = capsys.readouterr().out
    assert re.search(rf"worker {name} at here:12: sign of life \d+ s ago, 1 running, 0 acc", out)
    line = rf"  {running}  test\.divide  ann  attempt 2  \d+ s ago  25% a quarter \\x1b.*\\u202e\n"
    assert re.search(line, out)
    assert "forgotten" not in out

    # And plugins that only workers have are shown as such
    assert main(["plugins", str(site)]) == 0
    assert re.search(r"(?m)^test\.divide +\(workers only\)$", capsys.readouterr().out)


def test_who_has_watched_for_long_enough_is_done(site, put, monkeypatch, capsys):
    put("ann")
    look, looked = looking._print_status, []

    def interrupted(site):
        looked.append(site)
        if len(looked) == 2:
            raise KeyboardInterrupt
        look(site)

    monkeypatch.setattr(looking, "_print_status", interrupted)
    monkeypatch.setattr(looking, "WATCH_SECONDS", 0.0)

    assert main(["status", str(site), "--watch"]) == 0

    assert capsys.readouterr().out.startswith("site main: 1 open")


def test_status_says_when_there_is_no_worker(site, put, capsys):
    put("ann")

    main(["status", str(site)])

    assert "no workers: start one" in capsys.readouterr().out


def test_a_database_without_calls_is_told_as_one(site, capsys):
    assert main(["list", str(site)]) == 2

    assert "this database has no calls yet" in capsys.readouterr().err


def test_to_look_at_a_database_that_is_not_there_does_not_make_it(site):
    for command in ("list", "status", "prune", "show", "cancel", "forget", "retry"):
        ids = ["aa-aaaaaaaaaaaaaaaa"] if command in ("show", "cancel", "forget", "retry") else []
        assert main([command, str(site), *ids]) == 2

    assert main(["plugins", str(site)]) == 0
    assert [path.name for path in site.parent.iterdir()] == [site.name]


def test_a_database_that_nothing_was_put_in_has_no_calls(site, capsys):
    ZODB.DB(FileStorage(str(site.parent / "Data.fs"))).close()

    assert main(["list", str(site)]) == 0
    assert capsys.readouterr().out == "no calls\n"
    assert main(["list", str(site), "--json"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["status", str(site)]) == 0
    assert "0 open, 0 succeeded" in capsys.readouterr().out
    assert main(["prune", str(site)]) == 0
    assert capsys.readouterr().out == "no calls\n"
    for command in ("show", "cancel", "forget", "retry"):
        assert main([command, str(site), "aa-aaaaaaaaaaaaaaaa"]) == 1
        assert "nothing was ever put there" in capsys.readouterr().err


def test_plugins_of_a_fresh_site_are_those_of_its_configuration(site, capsys):
    assert main(["plugins", str(site)]) == 0

    assert "http.get" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["cancel", "worker"])
def test_a_storage_that_is_read_only_is_told_in_one_line(site, put, capsys, monkeypatch, command):
    call = put("ann")
    uri = f"file://{site.parent}/Data.fs?read_only=true"
    site.write_text(f"[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = {uri}\n")
    monkeypatch.setattr("wsgi_zasync.cli.working.log_to_stderr", lambda kind: None)

    assert main([command, str(site), *([call] if command == "cancel" else [])]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert "ReadOnlyError" in line
    assert main(["list", str(site)]) == 0


def test_a_file_that_another_process_has_open_is_told_in_one_line(site, put, capsys):
    put("ann")
    storage = FileStorage(str(site.parent / "Data.fs"))
    try:
        assert main(["list", str(site)]) == 2
    finally:
        storage.close()

    (line,) = capsys.readouterr().err.splitlines()
    assert "is open in another process" in line
    assert "ZEO" in line


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, "cannot be read"),
        ("[app:main]\nuse = egg:other\n", "does not say where the calls are"),
        (SITE.replace("zodb_uri", "zodb_url"), "did you mean zodb_uri"),
        (SITE + "[permisions]\nedit = role:x\n", "did you mean [permissions]"),
        ("[worker:main]\nuse = egg:other\n", "write use = egg:wsgi_zasync#worker"),
        (SITE.replace("file://%(here)s", "zeo://127.0.0.1:1"), "secret is missing"),
        ("[filter:z]\nuse = egg:wsgi_zasync\nprefix = /100%\n", "[filter:z]: Error in file"),
        ("[filter:z]\nuse = egg:wsgi_zasync\nprefix = /100%\n", "write %% for a percent sign"),
        ("[filter:z]\nuse = egg:wsgi_zasync\nprefix = /%(heer)s\n", "key 'heer'"),
        (SITE.replace("%(here)s", "100%"), "write %% for a percent sign"),
        ("[DEFAULT]\nx = 100%\n" + SITE, "write %% for a percent sign"),
        (SITE + "grace\n", "parsing errors"),
    ],
)
def test_a_wrong_file_is_one_line_and_exit_code_2(tmp_path, capsys, text, wanted):
    path = tmp_path / "wrong.ini"
    if text is not None:
        path.write_text(text)

    assert main(["list", str(path)]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("zasync: ")
    assert wanted in line


@pytest.mark.parametrize("command", ["list", "check"])
def test_a_file_that_is_no_storage_is_one_line_and_exit_code_2(tmp_path, command):
    (tmp_path / "site.ini").write_text(SITE)
    (tmp_path / "Data.fs").write_bytes(b"no storage" * 10)

    # In a process of its own: ZODB leaves the file open.
    found = subprocess.run(
        [sys.executable, "-m", "wsgi_zasync", command, str(tmp_path / "site.ini")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert found.returncode == 2
    (line,) = found.stderr.splitlines()
    assert "no FileStorage?" in line


def test_a_file_may_name_modules_of_the_current_directory(tmp_path):
    (tmp_path / "site.ini").write_text(SITE + "[plugins]\nown.work = my_plugins:work\n")
    (tmp_path / "my_plugins.py").write_text("def work(attempt):\n    return 1\n")
    # A module of the directory does not come before an installed one.
    (tmp_path / "webob.py").write_text("raise SystemExit('webob of this directory')\n")
    # As a console script: without the current directory on Python's path.
    command = [sys.executable, "-P", "-m", "wsgi_zasync", "plugins", "site.ini"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

    assert found.returncode == 0, found.stderr
    assert "my_plugins:work" in found.stdout


def test_a_directory_that_is_gone_hinders_nothing(site, put, tmp_path, monkeypatch, capsys):
    put("ann")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()

    assert main(["list", str(site)]) == 0
    assert "ann" in capsys.readouterr().out


@pytest.mark.parametrize("line", ["policy = script:main", "[plugins]\ntest.script = script:main"])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("import sys\nsys.exit(0)", "to import script ends the process"),
        ("1 / 0", "script cannot be imported: ZeroDivisionError: division by zero"),
        (
            "def main(:",
            "script cannot be imported: SyntaxError: invalid syntax (script.py, line 1)",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_told(tmp_path, line, content, told):
    (tmp_path / "script.py").write_text(f"{content}\n")
    (tmp_path / "site.ini").write_text(f"{SITE}{line}\n")

    found = subprocess.run(
        [sys.executable, "-m", "wsgi_zasync", "check", "site.ini"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )

    assert found.returncode == 2
    assert "script" in found.stderr
    assert found.stderr.endswith(f"{told}\n")


def test_a_zeo_server_that_is_away_is_exit_code_1(tmp_path, capsys):
    path = tmp_path / "site.ini"
    path.write_text(
        "[worker:main]\nuse = egg:wsgi_zasync#worker\n"
        f"zodb_uri = zeo://{tmp_path}/no.sock?wait_timeout=1\nsecret = {'x' * 32}\n"
    )

    assert main(["list", str(path)]) == 1
    assert main(["check", str(path)]) == 1

    assert capsys.readouterr().err.count("cannot be reached") == 2


class TestCheck:
    """zasync check."""

    def check(self, tmp_path, text):
        path = tmp_path / "site.ini"
        path.write_text(text)
        return main(["check", str(path)])

    def test_a_good_site_is_ok_and_its_secrets_are_masked(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "secret = topsecrettopsecrettopsecrettopsecret\n")

        out = capsys.readouterr().out
        assert code == 0
        assert "secret = ***" in out
        assert "topsecret" not in out
        assert out.endswith("connected, nothing was put yet\nok\n")

    @pytest.mark.parametrize(
        ("more", "wanted"),
        [
            ("site = other\n", "[worker:main] site = other: the web side has site = main"),
            (f"secret = {'b' * 32}\n", "[worker:main] secret: the one of [filter:zasync]"),
            (f"secret = {'b' * 32} {'a' * 32}\n", None),
            (
                "policy = wsgi_zasync.security:DefaultPolicy\n",
                "[worker:main] policy: only [worker:main] has one",
            ),
            ("", None),
        ],
    )
    def test_sides_that_do_not_fit_are_told(self, tmp_path, capsys, more, wanted):
        code = self.check(
            tmp_path,
            SITE
            + f"secret = {'a' * 32}\n[worker:main]\nuse = egg:wsgi_zasync#worker\n"
            + "zodb_uri = file://%(here)s/x.fs\n"
            + more,
        )

        err = capsys.readouterr().err
        assert code == (2 if wanted else 0)
        assert (wanted or "") in err
        assert "aaaa" not in err

    def test_everything_that_is_wrong_is_told_at_once(self, tmp_path, capsys):
        code = self.check(
            tmp_path,
            SITE
            + "waiters = many\n[worker:main]\nuse = egg:wsgi_zasync#worker\n"
            + "zodb_uri = memory://\ngrce = 1\n",
        )

        err = capsys.readouterr().err
        assert code == 2
        assert "waiters: write a whole number" in err
        assert "did you mean grace" in err

    def test_a_key_that_pastedeploy_passes_by_is_told_and_one_that_it_sets_is_not(
        self, tmp_path, capsys
    ):
        path = tmp_path / "site.ini"
        path.write_text(
            "[DEFAULT]\nzodb_uri = file://%(here)s/a.fs\nsite = a\nsecret = file:%(here)s/key\n"
            "[filter:zasync]\nuse = egg:wsgi_zasync\nset zodb_uri = file://%(here)s/b.fs\n"
            # Of the last it makes no difference.
            "site = b\nsecret = file:%(here)s/key\n"
        )
        (tmp_path / "key").write_text("k" * 40)

        assert main(["check", str(path)]) == 2

        out, err = capsys.readouterr()
        assert f"zodb_uri = file://{tmp_path}/b.fs" in out
        (line,) = err.splitlines()
        assert "[filter:zasync] site: PasteDeploy passes by it" in line

    def test_sections_of_another_file_are_read_as_the_site_reads_them(self, tmp_path, capsys):
        (tmp_path / "base.ini").write_text(
            "[filter:zasync]\nuse = egg:wsgi_zasync\nprefix = /calls\nworker = embedded\n"
            "[worker:main]\nuse = egg:wsgi_zasync#worker\nthreads = 3\n"
        )

        code = self.check(
            tmp_path,
            "[filter:zasync]\nuse = config:base.ini#zasync\nzodb_uri = file://%(here)s/a.fs\n"
            "[worker:main]\nuse = config:base.ini#main\n",
        )

        out = capsys.readouterr().out
        assert code == 0
        for line in ("prefix = /calls", "worker = embedded", "threads = 3", "connected"):
            assert line in out

    @pytest.mark.parametrize(
        "text",
        [
            "zodb_uri = zeo://db.example.org:8100\n",
            "zodb_uri = zeo://0.0.0.0:8100\n",
            "zodb_conf = zodb.conf\n",
        ],
    )
    def test_zeo_that_others_can_reach_is_refused(self, tmp_path, capsys, text):
        (tmp_path / "zodb.conf").write_text(
            "<zodb>\n<zeoclient>\nserver db.example.org:8100\n</zeoclient>\n</zodb>\n"
        )
        code = self.check(
            tmp_path, f"[filter:zasync]\nuse = egg:wsgi_zasync\nsecret = {'x' * 32}\n{text}"
        )

        assert code == 2
        assert "can be reached from elsewhere" in capsys.readouterr().err

    def test_tables_that_the_policy_does_not_read_are_told(self, tmp_path, capsys):
        path = tmp_path / "site.ini"
        path.write_text(
            "[filter:zasync]\nuse = egg:wsgi_zasync\nzodb_uri = file://%(here)s/Data.fs\n"
            "policy = wsgi_zasync.security:DefaultPolicy\n[roles]\nann = editor\n"
        )

        assert main(["check", str(path)]) == 0

        assert "(policy decides here, and reads none of [roles])" in capsys.readouterr().out

    def test_a_grant_that_is_none_is_wrong_configuration(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "[permissions]\nedit = editor\n")

        assert code == 2
        assert "[permissions] edit: 'editor' is neither role:NAME" in capsys.readouterr().err

    def test_a_scheduled_plugin_that_is_not_there_is_told(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "[schedule]\nnightly = 0 3 * * * http.got\n")

        assert code == 2
        assert "[schedule] nightly: there is no plugin 'http.got'" in capsys.readouterr().err

    def test_a_plugin_that_cannot_be_imported_is_told(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "[plugins]\nx.y = no_such_module:f\n")

        assert code == 2
        assert "no_such_module" in capsys.readouterr().err

    def test_a_plugin_open_to_expressions_needs_a_permission(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "[plugin:http.get]\nexpressions = yes\n")

        assert code == 2
        assert "needs a permission" in capsys.readouterr().err

    def test_a_place_that_there_is_none_of_is_told(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "[plugin:http.get]\nruns = somewhere\n")

        assert code == 2
        assert "[plugin:http.get] runs: write reactor or thread or" in capsys.readouterr().err

    def test_a_plugin_that_no_worker_would_start_with_is_told(self, tmp_path, capsys):
        code = self.check(tmp_path, SITE + "[plugin:http.get]\nruns = process\n")

        assert code == 2
        assert "'http.get' is declared with runs=\"process\"" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            ("max_bytes = 1 MB", "[plugin:http.get] max_bytes: '1 MB' is no number of bytes"),
            ("alow = 10.0.0.1", "[plugin:http.get] alow: no such option"),
            ("allow = 10.0.0.1/8", "[plugin:http.get] allow: '10.0.0.1/8' is no network"),
            ("ca_file = absent.pem", "[plugin:http.get] ca_file: absent.pem cannot be read"),
            ("user_agent = ünser", "[plugin:http.get] user_agent: "),
            ("ports = 80 8080", None),
        ],
    )
    def test_options_that_every_call_would_fail_of_are_told(
        self, tmp_path, capsys, options, wanted
    ):
        code = self.check(tmp_path, SITE + f"[plugin:http.get]\n{options}\n")

        assert code == (2 if wanted else 0)
        assert (wanted or "") in capsys.readouterr().err

    @pytest.mark.parametrize(("app", "code"), [("main", 0), ("egg:other", 0), ("mian", 2)])
    def test_an_application_that_is_not_there_is_told(self, tmp_path, capsys, app, code):
        worker = f"[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = memory://\napp = {app}\n"

        assert self.check(tmp_path, f"{worker}[pipeline:main]\npipeline = zasync site\n") == code
        assert ("[worker:main] app: there is no [app:mian]" in capsys.readouterr().err) == bool(
            code
        )

    @pytest.mark.parametrize("uri", ["nonsense://x", "file:///no/such/directory/Data.fs"])
    def test_a_database_that_is_named_wrongly_is_wrong_configuration(self, tmp_path, capsys, uri):
        settings = f"zodb_uri = {uri}\nsecret = {'x' * 32}\n"
        code = self.check(tmp_path, f"[filter:zasync]\nuse = egg:wsgi_zasync\n{settings}")

        assert code == 2
        assert f"the database {uri} cannot be opened" in capsys.readouterr().err

    def test_what_is_wrong_for_both_sides_is_told_once(self, tmp_path, capsys):
        worker = "[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = memory://\n"
        self.check(tmp_path, f"{SITE}{worker}[permissions]\nedit = editor\n")

        assert capsys.readouterr().err.count("'editor' is neither") == 1

    @pytest.mark.parametrize(
        ("settings", "wanted"),
        [
            ("anonymous = session", "anonymous = session is not available"),
            ("identity_header = X-Remote-User", "list the proxies in trusted_proxies"),
        ],
    )
    def test_says_what_a_server_would_not_start_with(self, tmp_path, capsys, settings, wanted):
        code = self.check(tmp_path, f"{SITE}{settings}\n")

        assert code == 2
        assert wanted in capsys.readouterr().err

    @pytest.mark.parametrize(("kind", "code"), [("none", 2), ("embedded", 0)])
    def test_says_that_only_one_process_can_have_a_file(self, tmp_path, capsys, kind, code):
        worker = (
            f"[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = file://{tmp_path}/./Data.fs\n"
        )

        assert self.check(tmp_path, f"{SITE}worker = {kind}\n{worker}") == code

        assert ("[worker:main] zodb_uri: [filter:zasync] has" in capsys.readouterr().err) == bool(
            code
        )

    def test_a_worker_beside_an_embedded_one_has_what_the_filter_says(self, tmp_path, capsys):
        filter_section = (
            "[filter:zasync]\nuse = egg:wsgi_zasync\nworker = embedded\nsite = a\nthreads = 3\n"
            "prefix = /calls\nset zodb_uri = file://%(here)s/a.fs\n"
        )
        code = self.check(
            tmp_path,
            filter_section + "[worker:main]\nuse = egg:wsgi_zasync#worker\ngrace = 1\n"
            "[worker:night]\nuse = egg:wsgi_zasync#worker\nserves = night\nthreads = 2\n",
        )

        out = capsys.readouterr().out
        assert code == 0
        own = {part.split("]")[0]: part for part in out.split("[worker:")[1:]}
        for name, wanted in (("main", "grace = 1.0"), ("night", "serves = ('night',)")):
            assert wanted in own[name]
            assert "site = a" in own[name]
            assert f"zodb_uri = file://{tmp_path}/a.fs" in own[name]
        assert "threads = 3" in own["main"]
        assert "threads = 2" in own["night"]

        # A section for it is not needed
        (tmp_path / "site.ini").write_text(filter_section)
        settings = worker_settings(ConfigFile.load(tmp_path / "site.ini"))
        assert (settings.site, settings.threads) == ("a", 3)
        with pytest.raises(ConfigurationError, match=r"no section \[worker:night\]"):
            worker_settings(ConfigFile.load(tmp_path / "site.ini"), "night")

    def test_a_file_with_nothing_of_ours_is_told(self, tmp_path, capsys):
        code = self.check(tmp_path, "[app:main]\nuse = egg:other\n")

        assert code == 2
        assert "has neither" in capsys.readouterr().err


class TestUsage:
    """Arguments."""

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nonsense"],
            ["list"],
            ["worker"],
            ["worker", "a.ini", "-C", "b.conf"],
            ["demo", "--port", "65536"],
            ["demo", "--port", "-1"],
            ["list", "a.ini", "--limit", "0"],
            ["list", "a.ini", "--state", "lost"],
        ],
    )
    def test_wrong_arguments_are_exit_code_2(self, arguments, capsys):
        with pytest.raises(SystemExit) as found:
            main(arguments)

        assert found.value.code == 2
        assert "zasync" in capsys.readouterr().err

    def test_a_section_of_a_file_that_has_none_is_told(self, capsys):
        assert main(["worker", "-C", "worker.conf", "--section", "mail"]) == 2

        assert capsys.readouterr().err.startswith("zasync: --section names a [worker:…]")

    def test_help_says_what_every_command_is_for(self, capsys):
        with pytest.raises(SystemExit) as found:
            main(["--help"])

        assert found.value.code == 0
        out = capsys.readouterr().out
        for (
            command
        ) in "demo worker list show status plugins check cancel retry forget prune".split():
            assert f"    {command} " in out

    def test_it_says_which_version_it_is(self, capsys):
        with pytest.raises(SystemExit) as found:
            main(["--version"])

        assert found.value.code == 0
        assert capsys.readouterr().out == f"wsgi-zasync {version('wsgi-zasync')}\n"

    def test_looking_at_calls_loads_no_reactor_and_no_server(self, site, put):
        put("ann")
        script = (
            "import sys; from wsgi_zasync.cli import main; "
            f"code = main(['list', {str(site)!r}]); "
            "sys.exit(code or bool({'twisted', 'waitress', 'chameleon'} & set(sys.modules)))"
        )

        assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0

    def test_who_closes_the_pipe_early_gets_no_traceback(self, site, put):
        put("ann")
        for arguments in (["list", site], ["--help"], ["list", "--help"]):
            for unbuffered in ("", "1"):
                with closed_pipe() as out:
                    found = in_process(
                        *arguments,
                        unbuffered=unbuffered,
                        stdout=out,
                        stderr=subprocess.PIPE,
                        text=True,
                    )

                assert (found.returncode, found.stderr) == (0, "")

    def test_a_change_that_ends_for_a_closed_pipe_has_failed(self, site, put):
        calls = [put("ann"), put("ann")]
        with closed_pipe() as out:
            found = in_process(
                "cancel",
                site,
                *calls,
                unbuffered="1",
                stdout=out,
                stderr=subprocess.PIPE,
                text=True,
            )

        assert (found.returncode, found.stderr) == (1, "zasync: [Errno 32] Broken pipe\n")

    def test_a_change_that_is_done_has_not_failed_for_a_closed_pipe(self, site, put, capsys):
        calls = [put("ann"), put("ann")]
        with closed_pipe() as out:
            found = in_process("cancel", site, *calls, stdout=out, stderr=subprocess.PIPE)

        assert (found.returncode, found.stderr) == (0, b"")
        assert main(["list", str(site), "--state", "waiting"]) == 0
        assert capsys.readouterr().out == "no calls\n"


class TestOutput:
    """What is printed."""

    def test_a_terminal_of_another_encoding_is_shown_all_the_same(self, site, put):
        call = put("ann", title="j\u00f6rg \u2713")

        found = in_process("list", site, encoding="latin-1", capture_output=True)

        assert (found.returncode, found.stderr) == (0, b"")
        assert call.encode() in found.stdout
        assert b"j\xf6rg" in found.stdout
        assert rb"\u2713" in found.stdout

    def test_what_cannot_be_written_is_one_line_and_exit_code_1(self, site, put):
        put("ann")
        for arguments in (["list", site], ["--version"]):
            with open("/dev/full", "wb") as full:
                found = in_process(*arguments, stdout=full, stderr=subprocess.PIPE, text=True)

            assert found.returncode == 1
            assert found.stderr == "zasync: [Errno 28] No space left on device\n"

    def test_a_log_that_cannot_be_written_changes_no_exit_code(self, site, put):
        put("ann")
        script = (
            "import logging, sys\n"
            "from wsgi_zasync.cli import main\n"
            "from wsgi_zasync.cli.logs import log_to_stderr\n"
            "log_to_stderr()\n"
            "logging.warning('nobody reads this')\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        env = os.environ | {"PYTHONUNBUFFERED": ""}
        for arguments, code in ((["list", str(site)], 0), (["--help"], 0), (["list", "no.ini"], 2)):
            command = [sys.executable, "-c", script, *arguments]
            with closed_pipe() as out:
                found = subprocess.run(
                    command, cwd=ROOT, env=env, stderr=out, stdout=subprocess.DEVNULL
                )

            assert found.returncode == code

    def test_an_error_that_cannot_be_told_has_its_exit_code(self, site, put):
        with open("/dev/full", "wb") as full:
            wrong = in_process("list", "nowhere.ini", stderr=full)
            failed = in_process(
                "cancel", site, "nothing", put("ann"), stderr=full, stdout=subprocess.PIPE
            )
            neither = in_process("list", site, stderr=full, stdout=full)

        assert (wrong.returncode, failed.returncode, neither.returncode) == (2, 1, 1)
        assert failed.stdout.endswith(b": cancelled\n")

    def test_nowhere_to_write_to_is_no_error(self, site, put):
        put("ann")
        command = f"exec {sys.executable} -m wsgi_zasync list {site} >&-"

        found = subprocess.run(command, shell=True, cwd=ROOT, stderr=subprocess.PIPE)

        assert (found.returncode, found.stderr) == (0, b"")

    def test_no_file_of_the_storage_is_where_others_write_to(self, tmp_path):
        (tmp_path / "child.py").write_text(
            "import os\n"
            "numbers = [os.fstat(number).st_rdev for number in range(3)]\n"
            "open('found', 'w').write(repr(numbers))\n"
        )
        (tmp_path / "places.py").write_text(
            "import subprocess, sys\n"
            "from wsgi_zasync.security import DefaultPolicy as Policy\n"
            "subprocess.run([sys.executable, 'child.py'], check=True)\n"
        )
        (tmp_path / "site.ini").write_text(SITE + "policy = places:Policy\n")
        command = f"exec {sys.executable} -m wsgi_zasync check site.ini <&- >&- 2>&-"
        env = os.environ | {"PYTHONPATH": str(ROOT)}

        assert subprocess.run(command, shell=True, cwd=tmp_path, env=env).returncode == 0
        nowhere = os.stat(os.devnull).st_rdev
        assert (tmp_path / "found").read_text() == repr([nowhere] * 3)

    def test_columns_are_as_wide_as_their_widest_value(self):
        assert table(("A", "B"), [("x", 1), ("long", 2)]) == "A     B\nx     1\nlong  2"

    def test_every_value_is_one_line(self):
        assert shown("a\nb\r\x00\x9b\u2028") == r"a\nb\r\x00\x9b\u2028"

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (3, "3 s ago"),
            (90, "90 s ago"),
            (120, "2 min ago"),
            (300, "5 min ago"),
            (9000, "2 h ago"),
            (-5, "0 s ago"),
        ],
    )
    def test_times_are_told_as_people_do(self, seconds, text):
        clock = FakeClock()

        assert ago(clock.now().timestamp() - seconds, clock) == text

    def test_log_lines_are_one_line_each_as_text_and_as_json(self):
        record = logging.LogRecord("a.b", logging.INFO, "", 0, "call %s", ("x\ny",), None)
        record.call = "id"

        text, data = TextFormatter().format(record), json.loads(JSONFormatter().format(record))

        assert text.endswith(r"INFO    call x\ny")
        assert data["message"] == "call x\ny"
        assert data["call"] == "id"
        assert data["level"] == "INFO"

    @pytest.mark.parametrize("kind", ["text", "json"])
    def test_what_is_said_past_the_log_is_logged(self, kind):
        script = """
import logging, sys, threading, warnings
from twisted.internet.defer import Deferred
from wsgi_zasync.cli.logs import log_to_stderr

def lose(text):
    raise ValueError(text)

log_to_stderr(sys.argv[1])
warnings.warn("1\\n \\x1b")
thread = threading.Thread(target=lose, args=["2\\n \\x1b"])
thread.start()
thread.join()
Deferred().errback(ValueError("3\\n \\x1b"))
logging.getLogger("wsgi_zasync.plugin").info("%d \\x1b", "4 of the user")
"""
        command = [sys.executable, "-c", script, kind]

        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

        assert (found.returncode, found.stdout) == (0, "")
        lines = found.stderr.splitlines()
        if kind == "json":
            entries = [json.loads(line) for line in lines]
            told = [each["message"] + each.get("traceback", "") for each in entries]
        else:
            # What belongs to a line is below it.
            assert all(re.match(r"20\d\d-|    ", line) for line in lines)
            told = found.stderr.replace(r"\n", "\n").replace(r"\x1b", "\x1b").split("\n2")
        for text in ("1\n \x1b", "2\n", "3\n"):
            assert any(text in each for each in told)
        assert "\x1b" not in found.stderr
        assert any("%d \x1b (cannot be filled in: TypeError)" in each for each in told)
        assert "of the user" not in found.stderr

    def test_what_a_plugin_says_tells_which_call_it_is_about(self):
        record = logging.LogRecord("wsgi_zasync.plugin", logging.INFO, "", 0, "page %d", (3,), None)
        record.call = "ab-cd"

        assert TextFormatter().format(record).endswith("INFO    call ab-cd: page 3")

    def test_a_traceback_in_the_log_cannot_steer_a_terminal(self):
        stream = io.StringIO()
        out = logging.StreamHandler(stream)
        out.setFormatter(TextFormatter())
        logger = logging.Logger("test")
        logger.addHandler(out)

        try:
            raise ValueError("\x1b[2J")
        except ValueError:
            logger.exception("failed")

        assert "\x1b" not in stream.getvalue()
        assert r"\x1b[2J" in stream.getvalue()


class TestDemo:
    """What needs no server to be seen."""

    def test_the_demos_own_file_is_used_where_nothing_differs(self, tmp_path):
        original = ROOT / "paste.ini"

        assert _own_copy(original, ROOT / "var", 8080) == original

    def test_a_copy_has_the_other_port_and_place_in_every_section(self, tmp_path):
        copy = _own_copy(ROOT / "paste.ini", tmp_path, 8099)

        text = copy.read_text()
        assert copy == tmp_path / "paste.ini"
        assert "http_port = 8099\n" in text
        assert f"data = {tmp_path}\n" in text

    @pytest.mark.parametrize("name", ["a#b", "50%", "a?b", "a\\b", "a\nb", "\udcff"])
    def test_a_place_that_no_configuration_can_name_is_told(self, tmp_path, capsys, name):
        assert main(["demo", "--port", "0", "--data", str(tmp_path / name)]) == 2

        assert "a configuration cannot name it" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_worker_stops_at_once_that_is_still_waiting_for_its_database(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "site.ini"
        path.write_text("[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = memory://\n")
        asked = []

        def start(worker, **how):
            signal.raise_signal(signal.SIGTERM)
            asked.append("waits for ever")

        monkeypatch.setattr(Worker, "start", start)
        monkeypatch.setattr(working, "log_to_stderr", lambda kind: None)

        with pytest.raises(SystemExit) as stopped:
            main(["worker", str(path)])

        assert (stopped.value.code, asked) == (0, [])

    @pytest.mark.parametrize("error", [RuntimeError, SystemExit])
    def test_a_worker_whose_thread_has_ended_does_not_seem_to_live(
        self, tmp_path, monkeypatch, caplog, error
    ):
        path = tmp_path / "site.ini"
        path.write_text("[worker:main]\nuse = egg:wsgi_zasync#worker\nzodb_uri = memory://\n")

        def fail(service):
            raise error("nobody has thought of this")

        monkeypatch.setattr(Service, "seconds_to_wait", fail)
        monkeypatch.setattr(working, "LOOK_SECONDS", 0.01)
        monkeypatch.setattr(working, "log_to_stderr", lambda kind: None)

        assert main(["worker", str(path), "-n", "w"]) == 1

        (record,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
        assert record.getMessage() == "worker w has ended by an error"
        assert record.exc_info[0] is error

    def test_a_signal_stops_once_and_then_kills(self):
        stopped = []
        before = signal.getsignal(signal.SIGTERM)

        with on_stop(lambda: stopped.append(True)):
            signal.raise_signal(signal.SIGTERM)
            assert stopped == [True]
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

        assert signal.getsignal(signal.SIGTERM) is before

    @pytest.mark.parametrize("at_once", ["None", "lambda: print('at once', flush=True)"])
    def test_a_second_signal_ends_the_process_and_what_belongs_to_it(self, at_once):
        script = f"""
import os, signal
from wsgi_zasync.cli.signals import on_stop

with on_stop(lambda: print("stop", flush=True), {at_once}):
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)
print("lives")
"""

        found = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True)

        assert found.returncode == -signal.SIGTERM
        assert found.stdout == (b"stop\n" if at_once == "None" else b"stop\nat once\n")

    def test_a_closed_terminal_stops_however_often_it_is_told(self):
        stopped = []
        before = signal.getsignal(signal.SIGHUP)

        with on_stop(lambda: stopped.append(True)):
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert stopped == [True]

        assert signal.getsignal(signal.SIGHUP) is before

    def test_who_was_started_by_nohup_goes_on_when_its_terminal_is_closed(self):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with on_stop(lambda: pytest.fail("it was stopped")):
                signal.raise_signal(signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)
