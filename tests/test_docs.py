# SPDX-License-Identifier: ZPL-2.1
"""The documentation is executed, and whatever a user can write is in it."""

from __future__ import annotations

import ast
import configparser
import doctest
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import wsgi_zasync
from wsgi_zasync import errors, expressions, plugins, testing
from wsgi_zasync.cli import _parser, checking
from wsgi_zasync.configuration.key_table import rows
from wsgi_zasync.configuration.paste_file import SHARED_SECTIONS
from wsgi_zasync.manager.options import PutOptions
from wsgi_zasync.opening import open_database
from wsgi_zasync.settings import MiddlewareSettings, SharedSettings, WorkerSettings
from wsgi_zasync.states import TRANSITIONS, CallbackState, CallState
from wsgi_zasync.web import poll
from wsgi_zasync.worker import Worker
from wsgi_zasync.worker.attempt import Attempt

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.rst", *sorted(DOCS.rglob("*.rst"))]
}
EXECUTED = [name for name, text in PAGES.items() if re.search(r"^\s*>>> ", text, re.MULTILINE)]

#: A page that teaches one thing is read in one sitting.
LONGEST_HOWTO = 120
LONGEST_NARRATIVE = 200


def page(name: str) -> str:
    return PAGES[f"docs/{name}.rst"]


def literals(text: str) -> set[str]:
    """The words in double backquotes, taken apart where they are a call or a command."""
    quoted = re.findall(r"``([^`]+)``", text)
    words = {word for each in quoted for word in re.findall(r"--[\w-]+|[A-Za-z_][\w.-]*", each)}
    return words | {part for word in words for part in word.split(".")}


def undocumented(names: Any, text: str) -> list[str]:
    known = literals(text)
    return sorted(name for name in names if name not in known)


def public_members(cls: type) -> Iterator[str]:
    """Methods, properties and declared fields of a class of ours."""
    kinds = (FunctionType, property, classmethod, staticmethod)
    for name, value in vars(cls).items():
        if not name.startswith("_") and (
            isinstance(value, kinds) or inspect.isdatadescriptor(value)
        ):
            yield name


# -- it runs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXECUTED)
def test_the_examples_of_a_page_give_what_it_says(name, tmp_path, monkeypatch):
    # Given a page, and a directory that its examples may write to
    monkeypatch.chdir(tmp_path)
    # What other tests of this process exposed is none of the page's.
    monkeypatch.setattr(checking, "exposed_functions", list)
    parser = doctest.DocTestParser()
    example = parser.get_doctest(PAGES[name], {"__name__": "__main__"}, name, name, 0)
    said: list[str] = []

    # When its examples are run
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(example, out=said.append)

    # Then nothing differs from what is printed there
    assert runner.tries
    assert not runner.failures, "".join(said)


def code_blocks(text: str, language: str) -> Iterator[str]:
    pattern = rf"^( *)\.\. code-block:: {language}\n((?:\1 +.*\n|\s*\n)+)"
    for match in re.finditer(pattern, text + "\n", re.MULTILINE):
        yield textwrap.dedent(match[2]).strip() + "\n"


@pytest.mark.parametrize("name", PAGES)
def test_the_python_blocks_of_a_page_are_python(name):
    for block in code_blocks(PAGES[name], "python"):
        ast.parse(block)


@pytest.mark.parametrize("name", PAGES)
def test_the_configuration_of_a_page_has_keys_that_exist(name):
    known = {
        "filter": {row.name for row in rows(MiddlewareSettings)} | {"use"},
        "worker": {row.name for row in rows(WorkerSettings)} | {"use"},
    }
    for block in code_blocks(PAGES[name], "ini"):
        parser = configparser.RawConfigParser(delimiters=("=",))
        parser.optionxform = str
        parser.read_string(block)
        for section in parser.sections():
            kind, _, rest = section.partition(":")
            ours = "wsgi_zasync" in parser.get(section, "use", fallback="wsgi_zasync")
            if kind in known and ours and "paste.filter_app_factory" not in parser[section]:
                assert not set(parser[section]) - known[kind], f"{section} in {block}"
            elif not rest:
                assert section in {*SHARED_SECTIONS, "DEFAULT"}, section


@pytest.mark.parametrize("name", [n for n in PAGES if n.startswith("docs/howto/")])
def test_a_howto_is_short(name):
    assert len(PAGES[name].splitlines()) <= LONGEST_HOWTO


@pytest.mark.parametrize("name", [n for n in PAGES if n.startswith("docs/tutorial")])
def test_a_narrative_is_not_long(name):
    assert len(PAGES[name].splitlines()) <= LONGEST_NARRATIVE


def test_every_page_is_reached_from_the_first_one():
    listed = re.findall(r"^   ([\w/*-]+)$", page("index"), re.MULTILINE)
    reached = {
        path.relative_to(ROOT).as_posix() for each in listed for path in DOCS.glob(f"{each}.rst")
    }

    assert reached | {"README.rst", "docs/index.rst"} == set(PAGES)


def test_pages_use_our_vocabulary():
    # Words of others may be said of others: asyncio's Future is one.
    foreign = re.compile(r"\b(?:tasks?|jobs?|futures|handlers?)\b", re.IGNORECASE)
    found = [
        f"{name}: {line.strip()}"
        for name, text in PAGES.items()
        for line in text.splitlines()
        if foreign.search(re.sub("twisted.internet.task|<subscriber handler=", "", line))
    ]

    assert not found


def test_the_sqlite_of_a_page_waits_for_the_disk(tmp_path):
    blocks = code_blocks(page("howto/web-servers"), "text")
    (text,) = (block for block in blocks if "sqlite" in block)
    path = tmp_path / "zodb.conf"
    path.write_text(text.replace("/var/lib/my_site", str(tmp_path)))

    database = open_database(SharedSettings(zodb_conf=path))
    _, cursor = database.storage._adapter.connmanager.open_for_store()
    synchronous = cursor.execute("PRAGMA synchronous").fetchall()
    cursor.connection.close()
    database.close()

    # 1 is normal, what RelStorage has without it, and 2 is full.
    assert synchronous == [(2,)]


# -- it is complete --------------------------------------------------------------------------


def test_every_public_name_is_documented():
    text = page("reference/api") + page("reference/errors")

    assert not undocumented(wsgi_zasync.__all__, text)


@pytest.mark.parametrize(
    "cls",
    [
        wsgi_zasync.CallManager,
        wsgi_zasync.Call,
        wsgi_zasync.CallManagerMiddleware,
        wsgi_zasync.Principal,
        wsgi_zasync.Failure,
        wsgi_zasync.SecurityPolicy,
        wsgi_zasync.Secret,
        Worker,
    ],
)
def test_every_member_of_a_public_class_is_documented(cls):
    assert not undocumented(public_members(cls), page("reference/api"))


def test_every_option_of_a_put_is_documented():
    assert not undocumented((each.name for each in fields(PutOptions)), page("reference/api"))


def test_every_field_of_a_retry_policy_is_documented():
    names = [each.name for each in fields(wsgi_zasync.RetryPolicy)]

    assert not undocumented(names, page("howto/retry"))


def test_every_name_for_tests_and_for_expressions_is_documented():
    assert not undocumented(testing.__all__, page("howto/test-your-application"))
    assert not undocumented(expressions.__all__, page("reference/api"))


def test_every_member_of_an_attempt_and_every_option_of_a_plugin_is_documented():
    text = page("reference/plugins")
    arguments = inspect.signature(wsgi_zasync.plugin).parameters

    own = [name for name in vars(_attempt()) if not name.startswith("_")]

    assert not undocumented([*public_members(Attempt), *own], text)
    assert not undocumented([*arguments, *plugins._OPTIONS, *plugins.RUNS], text)


def _attempt() -> Attempt:
    ann = wsgi_zasync.Principal("ann")
    return Attempt(call_id="", number=1, principal=ann, idempotency_key="", settings={})


def test_every_error_is_documented():
    names = [
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.ZasyncError)
    ]

    assert names
    assert not undocumented(names, page("reference/errors"))


def test_every_setting_is_documented():
    names = {row.name for table in (MiddlewareSettings, WorkerSettings) for row in rows(table)}

    assert not undocumented(names, page("reference/settings"))


def test_every_command_and_its_options_are_documented():
    text = page("reference/cli")
    commands = _parser()._subparsers._group_actions[0].choices

    for name, command in commands.items():
        flags = {flag for action in command._actions for flag in action.option_strings}
        section = re.split(r"\n(?=``zasync )", text)
        own = [part for part in section if part.startswith(f"``zasync {name}")]
        assert own, f"zasync {name}"
        wanted = flags - {"-h", "--help", "-C", "-n"}
        assert not undocumented(wanted, own[0]), name


def test_every_address_is_documented():
    text = page("reference/http")
    addresses = ["GET /calls", "GET /calls/ID", "GET /calls/ID/result", "DELETE /calls/ID"]
    addresses += [f"POST /calls/ID/{what}" for what in poll._CHANGES]

    assert not [each for each in addresses if f"``{each}``" not in text]


def test_every_state_is_documented_with_what_may_follow_it():
    text = page("reference/states")

    assert not undocumented([*map(str, CallState), *map(str, CallbackState)], text)
    assert all(state.is_final == (not TRANSITIONS[state]) for state in CallState)


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_are_understood(name):
    command = re.compile(r"^ +(?:\.venv/bin/python -m wsgi_zasync|zasync) ([^:#\n]+)", re.MULTILINE)
    for line in command.findall(PAGES[name]):
        _parser().parse_args(line.rstrip(" &").split())


@pytest.mark.parametrize("name", PAGES)
def test_the_tests_that_a_page_names_exist(name):
    for path, function in re.findall(r"``(tests/[\w/.…]+)(?:::(\w+))?``", PAGES[name]):
        found = sorted(ROOT.glob(path.rstrip("/").replace("…", "*")))
        assert found, path
        assert not function or f"def {function}(" in found[0].read_text(encoding="utf-8"), function


def test_the_catalogue_of_failures_names_tests():
    assert "``tests/" in page("explanation/failures")
