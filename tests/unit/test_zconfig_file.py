# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest

from wsgi_zasync.errors import ConfigurationError
from wsgi_zasync.worker import Worker
from wsgi_zasync.zconfig_file import load_worker_conf

WORKER = """
<zodb main>
  <mappingstorage>
  </mappingstorage>
</zodb>
<zodb zasync>
  <mappingstorage>
  </mappingstorage>
</zodb>
<zasync-worker>
  serves default slow
  max-running 7
  max-callbacks 3
  <zasync-plugins>
    Report.render my_site.reports:render
  </zasync-plugins>
  <zasync-plugin Report.render>
    timeout 30
  </zasync-plugin>
  <zasync-roles>
    alice editor
    members:Bob editor reviewer
  </zasync-roles>
  <zasync-permissions>
    edit role:editor
  </zasync-permissions>
</zasync-worker>
"""


PLAIN = """
<zodb>
  <mappingstorage>
  </mappingstorage>
</zodb>
<zasync-worker>
</zasync-worker>
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "worker.conf"
        path.write_text(text)
        return path

    return write


def test_a_worker_can_be_configured_in_the_syntax_of_zope(write):
    settings = load_worker_conf(write(WORKER))

    assert settings.serves == ("default", "slow")
    assert (settings.max_running, settings.quotas.max_callbacks) == (7, 3)
    assert settings.plugins == {"Report.render": "my_site.reports:render"}
    # ZConfig itself tells the name of a section in lower case
    assert settings.plugin_options == {"Report.render": {"timeout": "30"}}
    assert settings.roles == {"alice": ("editor",), "members:Bob": ("editor", "reviewer")}
    assert settings.permissions == {"edit": ("role:editor",)}


def test_plugins_whose_names_differ_in_case_only_have_no_section(write):
    text = WORKER.replace("<zasync-plugins>", "<zasync-plugins>\n    report.Render a:b")

    with pytest.raises(ConfigurationError, match=r"may be Report\.render or report\.Render"):
        load_worker_conf(write(text))


def test_the_databases_are_opened_when_asked_for_the_first_one_being_the_applications(write):
    db = load_worker_conf(write(WORKER)).db()

    try:
        assert db.database_name == "main"
        assert set(db.databases) == {"main", "zasync"}
    finally:
        for each in set(db.databases.values()):
            each.close()


def test_a_worker_starts_from_such_a_file(write):
    worker = Worker.from_settings(load_worker_conf(write(PLAIN)))

    assert worker.run_once() == 0
    worker.stop()


def test_a_worker_without_sections_for_databases_names_one(write, tmp_path):
    (tmp_path / "key").write_text("k" * 40)
    text = "<zasync-worker>\n  zodb-uri zeo://127.0.0.1:8100\n  secret file:key\n</zasync-worker>\n"

    settings = load_worker_conf(write(text))

    assert settings.zodb_uri == "zeo://127.0.0.1:8100"
    assert settings.secret is not None
    assert settings.db is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "worker"),
        ("<zasync-worker>\n</zasync-worker>\n", "a worker needs a database"),
        (
            "<zasync-worker>\n  grace soon\n</zasync-worker>\n",
            "<zasync-worker> grace: write seconds",
        ),
        ("<zasync-worker>\n  max-runing 5\n</zasync-worker>\n", "max-runing: unknown key"),
        ("<zasync-worker>\n  prefix /x\n</zasync-worker>\n", "is a key of MiddlewareSettings"),
        ("<zasync-worker>\n", "unclosed|not closed"),
        (WORKER.replace("serves default slow", "zodb-uri memory://"), "exclude each other"),
        (
            "<zodb>\n<zeoclient>\nserver 10.0.0.1:8100\n</zeoclient>\n</zodb>\n"
            "<zasync-worker>\n</zasync-worker>\n",
            "ZEO at 10.0.0.1",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_file(write, text, said):
    path = write(text)

    with pytest.raises(ConfigurationError, match=said) as caught:
        load_worker_conf(path)

    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(ConfigurationError, match="absent.conf"):
        load_worker_conf(tmp_path / "absent.conf")


def test_a_file_of_another_encoding_is_said_so(tmp_path):
    path = tmp_path / "worker.conf"
    path.write_bytes(("# b\u00f6se" + PLAIN).encode("latin-1"))

    with pytest.raises(ConfigurationError, match=r"worker\.conf: 'utf-8' codec can't decode"):
        load_worker_conf(path)
