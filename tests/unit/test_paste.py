# SPDX-License-Identifier: ZPL-2.1
"""The factories that PasteDeploy files name."""

from __future__ import annotations

from pathlib import Path

import pytest
from paste.deploy import loadapp

from wsgi_zasync import CallManagerMiddleware, ConfigurationError, get_manager
from wsgi_zasync.configuration.paste_file import ConfigFile
from wsgi_zasync.configuration.paste_sections import worker as worker_section
from wsgi_zasync.paste import filter_factory, worker_factory
from wsgi_zasync.worker import Worker

SITE = """
[DEFAULT]
zodb_uri = memory://

[app:site]
paste.app_factory = {here}:make_application

[filter:zasync]
use = egg:wsgi_zasync
{filter}

[pipeline:main]
pipeline = zasync site

[worker:main]
use = egg:wsgi_zasync#worker
grace = 3

[plugins]
words.count = {here}:count_words

[plugin:words.count]
timeout = 7
"""


def count_words(attempt, text):
    return len(text.split())


def make_application(global_conf):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [get_manager(environ).put("words.count", "a b").id.encode()]

    return application


@pytest.fixture
def write(tmp_path, monkeypatch):
    # The module of this test under a name that a file can use.
    (tmp_path / "site_of_test_paste.py").write_text(Path(__file__).read_text())
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(filter=""):
        path = tmp_path / "site.ini"
        path.write_text(SITE.format(here="site_of_test_paste", filter=filter))
        return path

    return write


def test_the_filter_wraps_the_application_and_reads_the_shared_sections(write):
    site = loadapp(f"config:{write('prefix = /calls')}")

    assert isinstance(site, CallManagerMiddleware)
    assert site.settings.prefix == "/calls"
    assert site.settings.zodb_uri == "memory://"
    assert site.settings.plugin_options == {"words.count": {"timeout": "7"}}


def test_a_put_through_the_filter_is_checked_against_the_plugin_of_the_file(write):
    site = loadapp(f"config:{write()}")

    body = b"".join(site({"REQUEST_METHOD": "GET", "REMOTE_USER": "ann"}, lambda *_: None))
    site.stop()

    assert b"-" in body


def test_a_key_that_is_not_known_is_told_with_file_and_section(write):
    path = write("workr = embedded")

    with pytest.raises(ConfigurationError) as found:
        loadapp(f"config:{path}")

    assert f"{path} [filter:zasync] workr" in str(found.value)
    assert "did you mean worker" in str(found.value)


def test_the_filter_factory_reads_settings_before_there_is_an_application():
    wrap = filter_factory({}, zodb_uri="memory://")

    site = wrap(make_application({}))

    assert isinstance(site, CallManagerMiddleware)
    with pytest.raises(ConfigurationError):
        filter_factory({}, zodb_url="memory://")


def test_the_worker_factory_makes_a_worker_that_is_not_started(write):
    global_conf, local_conf = worker_section(ConfigFile.load(write()))

    worker = worker_factory(global_conf, **local_conf)

    assert isinstance(worker, Worker)
    assert worker.settings.grace == 3.0
    assert not worker.is_running
