# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest

from wsgi_zasync.configuration.paste_file import ConfigFile, ScheduleEntry
from wsgi_zasync.errors import ConfigurationError

SITE = """
[DEFAULT]
zodb_uri = file://%(here)s/Data.fs

[app:site]
use: egg:my_site

[filter:zasync]
use = egg:wsgi_zasync
set debug = yes
prefix = /calls

[worker:main]
use = egg:wsgi_zasync#worker
grace = 5

[plugins]
report.render = my_site.reports:render

[plugin:report.render]
timeout = 300
folder = %(here)s/reports

[roles]
alice = editor
members:bob = editor, reviewer

[permissions]
edit = role:editor user:alice

[schedule]
nightly = 0 3 * * mon-fri report.render
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "site.ini"
        path.write_text(text)
        return path

    return write


def test_the_shared_sections_are_read(write, tmp_path):
    file = ConfigFile.load(write(SITE))

    assert file.plugins == {"report.render": "my_site.reports:render"}
    assert file.plugin_options == {
        "report.render": {"timeout": "300", "folder": f"{tmp_path}/reports"}
    }
    assert file.permissions == {"edit": ("role:editor", "user:alice")}
    assert file.schedule == (
        ScheduleEntry("nightly", ("0", "3", "*", "*", "mon-fri"), "report.render"),
    )


def test_a_user_of_another_source_keeps_its_colon(write):
    file = ConfigFile.load(write(SITE))

    assert file.roles == {"alice": ("editor",), "members:bob": ("editor", "reviewer")}


def test_a_file_without_shared_sections_is_no_error(write):
    file = ConfigFile.load(write("[app:main]\nuse = egg:x\n"))

    assert (file.plugins, file.roles, file.schedule) == ({}, {}, ())


def test_the_section_in_which_a_key_stands_can_be_told(write):
    file = ConfigFile.load(write(SITE))

    assert file.sections_with("prefix", "filter") == ["filter:zasync"]
    assert file.sections_with("prefix", "worker") == []
    assert file.sections_with("zodb_uri", "filter") == []


def test_options_of_plugins_do_not_show(write):
    file = ConfigFile.load(write("[plugin:ldap]\npassword = hunter2\n"))

    assert "hunter2" not in repr(file)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[roles]\nalice\n", r"\[roles\] alice: write key = value"),
        ("[roles]\nalice = %(nobody)s\n", r"\[roles\] alice: .*%%"),
        ("[roles]\na = b\na = c\n", "already exists"),
        ("[schedule]\nnightly = 0 3 * * report.render\n", r"\[schedule\] nightly: write minute"),
        ("[schedule]\nnightly = 0 3 * * $ report.render\n", r"\[schedule\] nightly: write minute"),
        ("alice = editor\n", "no section headers"),
        ("[role]\nalice = editor\n", r"did you mean \[roles\]\?"),
        ("[permision]\nedit = x\n", r"did you mean \[permissions\]\?"),
        ("[plugin]\nx = y\n", r"did you mean \[plugin:NAME\]\?"),
        ("[plguin:x]\ny = z\n", r"did you mean \[plugin:NAME\]\?"),
        ("[wroker:main]\ny = z\n", r"did you mean \[worker:NAME\]\?"),
    ],
)
def test_a_wrong_line_is_named_by_file_section_and_key(write, text, said):
    path = write(text)

    with pytest.raises(ConfigurationError, match=said) as caught:
        ConfigFile.load(path)

    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_said_so(tmp_path):
    (tmp_path / "binary.ini").write_bytes(b"[x]\na = \xff\n")

    with pytest.raises(ConfigurationError, match="absent.ini cannot be read: No such file"):
        ConfigFile.load(tmp_path / "absent.ini")
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        ConfigFile.load(tmp_path)
    with pytest.raises(ConfigurationError, match=r"binary\.ini"):
        ConfigFile.load(tmp_path / "binary.ini")


def test_options_of_plugins_are_their_sections_own_even_where_the_defaults_have_them(write):
    file = ConfigFile.load(
        write(
            "[DEFAULT]\nfolder = /everybodys\n"
            "[plugins]\na.report = a:report\n[plugin:a.report]\nfolder = /its_own\n"
        )
    )

    assert file.plugin_options == {"a.report": {"folder": "/its_own"}}
