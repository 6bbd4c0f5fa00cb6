# SPDX-License-Identifier: ZPL-2.1
"""The demo as three processes: ZEO, worker and web; and the commands beside them."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from demo_site import PATIENCE, ROOT, DemoProcess


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with DemoProcess(tmp_path_factory.mktemp("three"), "--processes") as running:
        yield running
        assert running.stop() == 0
        assert "Traceback" not in "".join(running.output)


@pytest.fixture(scope="module")
def ended(site):
    """A call of ann's that has ended: its id."""
    ann = site.visitor("ann").clear()
    link = ann.ask("/links", url=site.sample("markup"))
    assert ann.ended(link)["state"] == "succeeded"
    return link.rpartition("/")[2]


@pytest.fixture
def bob(site):
    """Bob, with nothing left of what other tests asked for as him."""
    return site.visitor("bob").clear()


def zasync(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "wsgi_zasync", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def worker_pid(site):
    return int(re.search(r"worker: process (\d+)", "".join(site.output))[1])


def test_the_database_is_this_users_alone(site):
    socket = site.data / "zeo.sock"

    assert stat.S_ISSOCK(socket.stat().st_mode)
    assert stat.S_IMODE(socket.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE((site.data / "secret").stat().st_mode) == 0o600


def test_list_shows_calls_of_all_owners(site, ended):
    found = zasync("list", site.config)

    assert found.returncode == 0
    (line,) = [line for line in found.stdout.splitlines() if ended in line]
    assert line.split()[1:4] == ["succeeded", "shelf.fetch", "ann"]


def test_list_narrows(site, ended):
    assert ended in zasync("list", site.config, "--owner", "ann").stdout
    assert ended in zasync("list", site.config, "--plugin", "shelf.fetch").stdout
    assert ended not in zasync("list", site.config, "--owner", "bob").stdout
    assert ended not in zasync("list", site.config, "--state", "failed").stdout
    assert len(zasync("list", site.config, "--limit", "1", "--json").stdout.splitlines()) == 1


def test_show_tells_arguments_and_results_only_when_asked(site, ended):
    without, with_data = (
        zasync("show", site.config, ended),
        zasync("show", site.config, ended, "--data", "--json"),
    )

    assert "state: succeeded" in without.stdout
    assert "on success: done: python: shelf.add(url, result, now)" in without.stdout
    assert "alert" not in without.stdout
    facts = json.loads(with_data.stdout)
    assert facts["args"] == [site.sample("markup")]
    assert "alert" in facts["result"]["title"]


def test_an_unknown_call_is_one_line_and_exit_code_1(site, ended):
    for command in ("show", "cancel", "forget", "retry"):
        found = zasync(command, site.config, ended[:-4] + "aaaa")

        assert found.returncode == 1
        assert len(found.stderr.splitlines()) == 1
        assert found.stderr.startswith("zasync: there is no call")


def test_status_shows_the_worker_and_what_it_runs(site, bob):
    link = bob.ask("/reports")
    bob.running(link)

    found = zasync("status", site.config)

    assert found.returncode == 0
    assert f":{worker_pid(site)}: sign of life" in found.stdout
    assert f"  {link.rpartition('/')[2]}  shelf.report  bob  attempt 1" in found.stdout


def test_cancel_stops_what_runs_in_another_process(site, bob):
    link = bob.ask("/reports")
    bob.running(link)

    found = zasync("cancel", site.config, link.rpartition("/")[2])

    assert found.stdout.endswith(": asked to stop\n")
    assert bob.ended(link)["state"] == "cancelled"


def test_forget_erases_an_ended_call(site, bob):
    link = bob.ask("/links", url=site.sample("heron"))
    bob.ended(link)

    found = zasync("forget", site.config, link.rpartition("/")[2])

    assert found.returncode == 0
    assert bob.get(link).status == 404


def test_retry_says_when_there_is_nothing_to_retry(site, ended):
    found = zasync("retry", site.config, ended)

    assert found.returncode == 1
    assert "no failed callback" in found.stderr


def test_prune_forgets_nothing_before_its_time(site, ended):
    assert zasync("prune", site.config, "--dry-run").stdout.startswith("0 calls would be")
    assert zasync("prune", site.config).stdout.startswith("0 calls forgotten")
    assert ended in zasync("list", site.config).stdout


def test_plugins_are_those_of_the_file_and_the_installed_ones(site):
    found = zasync("plugins", site.config).stdout

    assert re.search(r"shelf\.report +transaction +120 s +edit +demo_app\.plugins:report", found)
    assert re.search(r"http\.get +reactor", found)


def test_check_shows_everything_but_secrets(site):
    found = zasync("check", site.config)

    assert found.returncode == 0, found.stderr
    assert found.stdout.endswith("ok\n")
    assert "connected, 1 worker" in found.stdout
    assert (site.data / "secret").read_text().strip() not in found.stdout


@pytest.mark.chaos
def test_a_killed_worker_loses_nothing(tmp_path):
    # A site of its own: the others would be left without a worker.
    with DemoProcess(tmp_path, "--processes") as site:
        ann = site.visitor("ann")
        link = ann.ask("/reports")
        ann.running(link)

        os.kill(worker_pid(site), signal.SIGKILL)
        command = [sys.executable, "-m", "wsgi_zasync", "worker", str(site.config), "-n", "second"]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as second:
            call = ann.ended(link)
            second.terminate()
            log = second.stderr.read()

        assert call["state"] == "succeeded"
        assert ann.get("/").text.count('class="report"') == 1
        assert second.returncode == 0
        assert "worker second is ready" in log
        assert f"call {call['id']} succeeded plugin=shelf.report owner=ann" in log
        assert site.stop() == 0
