# SPDX-License-Identifier: ZPL-2.1
"""What `make test` does about what is not a Python package, on machines made of a few commands."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts/system_deps.sh"
NAMED = "tests/functional/test_demo_browser.py"


class Machine:
    """A directory with the commands that there are, and one where they write what was asked."""

    def __init__(self, place):
        self.place = place
        self.log = place / "log"
        self.commands = place / "bin"
        self.commands.mkdir()
        for name in ("sh", "env", "timeout", "mkdir", "dirname", "true"):
            (self.commands / name).symlink_to(shutil.which(name))
        self.has("id", "echo 1000")

    def has(self, name, does):
        command = self.commands / name
        command.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.log}\n{does}\n')
        command.chmod(0o755)

    def run(self, **environment):
        done = subprocess.run(
            [shutil.which("sh"), str(SCRIPT)],
            env={"PATH": str(self.commands), "VENV": str(self.place / "venv"), **environment},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0
        assert done.stdout == ""
        return done.stderr

    def asked(self, name):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [line for line in lines if line.startswith(f"{name} ")]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def test_the_test_that_it_names_is_there_and_is_the_one_that_needs_it():
    with_browser = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests/functional").rglob("test_*.py")
        if "find_chromium" in path.read_text(encoding="utf-8")
    ]

    assert with_browser == [NAMED]
    assert NAMED in SCRIPT.read_text(encoding="utf-8")


def test_it_says_nothing_where_the_browser_is_there(machine):
    machine.has("chromium", "")

    assert machine.run() == ""


@pytest.mark.parametrize("user", ["0", "1000"])
def test_it_installs_where_nobody_has_to_be_asked_and_says_what_in_one_line(machine, user):
    machine.has("id", f"echo {user}")
    machine.has("apt-get", "")
    machine.has("sudo", 'shift; exec "$@"')

    (line,) = machine.run().splitlines()

    assert line.startswith("Installing chromium by apt-get")
    assert NAMED in line
    (asked,) = machine.asked("apt-get")
    assert asked.endswith("install --no-install-recommends chromium")
    assert bool(machine.asked("sudo")) == (user != "0")


def test_it_reads_the_lists_where_the_package_is_not_known(machine):
    machine.has("id", "echo 0")
    known = machine.place / "known"
    machine.has(
        "apt-get",
        f'case "$*" in *update) : > {known};; *) [ -e {known} ];; esac',
    )

    assert len(machine.run().splitlines()) == 1

    assert [line.split()[-1] for line in machine.asked("apt-get")] == [
        "chromium",
        "update",
        "chromium",
    ]


def test_what_cannot_be_installed_is_tried_once_and_said_each_time(machine):
    machine.has("id", "echo 0")
    machine.has("apt-get", "echo noise; echo noise >&2; exit 100")

    first = machine.run()
    tries = machine.asked("apt-get")
    second = machine.run()

    assert f"Skipped without a Chromium: {NAMED}" in first
    assert "noise" not in first
    assert f"Skipped without a Chromium: {NAMED}" in second
    assert machine.asked("apt-get") == tries


def test_a_password_is_never_asked_for(machine):
    machine.has("apt-get", "")
    machine.has("sudo", "exit 1")

    said = machine.run()

    assert NAMED in said
    assert "apt-get needs root here" in said
    assert machine.asked("apt-get") == []
    assert machine.asked("sudo") == ["sudo -n true"]


def test_nothing_is_installed_where_that_is_not_wanted(machine):
    machine.has("id", "echo 0")
    machine.has("apt-get", "")

    assert NAMED in machine.run(ZASYNC_SYSTEM_DEPS="no")

    assert machine.asked("apt-get") == []


def test_a_machine_without_apt_is_told_what_is_missing(machine):
    assert "There is no apt-get here" in machine.run()
