# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest
from paste.deploy.loadwsgi import FILTER, loadcontext

from wsgi_zasync.configuration.paste_file import ConfigFile
from wsgi_zasync.configuration.paste_sections import filters, passed_by, worker
from wsgi_zasync.errors import ConfigurationError

#: A file that others build on, in a directory of its own.
BASE = """
[DEFAULT]
zodb_uri = file://%(here)s/Data.fs
site = base

[filter:zasync]
use = egg:wsgi_zasync
prefix = /calls
waiters = 2

[worker:main]
use = egg:wsgi_zasync#worker
threads = 4
grace = 5
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "site.ini"
        path.write_text(text)
        return ConfigFile.load(path)

    return write


@pytest.fixture
def base(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "base.ini").write_text(BASE)


# -- filters --------------------------------------------------------------------------------


def test_a_filter_section_is_read_as_pastedeploy_does(write, tmp_path):
    file = write(
        "[DEFAULT]\nzodb_uri = file:///a.fs\nsite = a\nmine = /calls\n"
        "[filter:zasync]\nuse: egg:wsgi_zasync\nset zodb_uri = file:///b.fs\nsite = b\n"
        "get prefix = mine\nthreads: 3\n"
    )

    global_conf, local_conf = filters(file)["filter:zasync"]

    context = loadcontext(FILTER, f"config:{tmp_path}/site.ini", "zasync")
    assert local_conf == context.local_conf == {"prefix": "/calls", "threads": "3"}
    assert global_conf == context.global_conf
    assert (global_conf["zodb_uri"], global_conf["site"]) == ("file:///b.fs", "a")
    assert passed_by(file, "filter:zasync") == {"site": "b"}


def test_a_filter_that_is_made_of_another_has_what_that_one_says(write):
    file = write(
        "[filter:calls]\nuse = egg:wsgi_zasync\nworker = embedded\nprefix = /calls\n"
        "[filter:zasync]\nuse = calls\nzodb_uri = file:///a.fs\nprefix = /zasync\n"
        "[pipeline:main]\npipeline = zasync site\n"
    )

    # And the other one wraps nothing, so that it need not be whole
    assert {name: local_conf for name, (_, local_conf) in filters(file).items()} == {
        "filter:zasync": {"worker": "embedded", "zodb_uri": "file:///a.fs", "prefix": "/zasync"}
    }


@pytest.mark.parametrize(
    "wrapping", ["[pipeline:b]\npipeline = calls site\n", "[app:b]\nuse = c\nfilter-with = calls\n"]
)
def test_what_another_is_made_of_may_wrap_something_too(write, wrapping):
    file = write("[filter:calls]\nuse = egg:wsgi_zasync\n[filter:zasync]\nuse = calls\n" + wrapping)

    assert set(filters(file)) == {"filter:calls", "filter:zasync"}


def test_a_filter_of_another_file_keeps_that_ones_places(write, base, tmp_path):
    file = write("[filter:zasync]\nuse = config:etc/base.ini#zasync\nwaiters = 3\n")

    global_conf, local_conf = filters(file)["filter:zasync"]

    assert local_conf == {"prefix": "/calls", "waiters": "3"}
    assert global_conf["zodb_uri"] == f"file://{tmp_path}/etc/Data.fs"
    # What the filter reads the shared sections of
    assert global_conf["__file__"] == str(tmp_path / "site.ini")


@pytest.mark.parametrize("use", ["use = egg:wsgi_zasync", "use = calls"])
def test_a_filter_app_is_known_without_what_it_wraps(write, use):
    file = write(
        "[app:main]\nuse = egg:absent\n[filter:calls]\nuse = egg:wsgi-zasync#main\n"
        f"[filter-app:zasync]\n{use}\nnext = main\nfilter-with = calls\nprefix = /calls\n"
    )

    assert filters(file)["filter-app:zasync"][1] == {"prefix": "/calls"}


def test_factories_are_known_and_what_wraps_the_filter_is_passed_by(write):
    file = write(
        "[filter:a]\npaste.filter_app_factory = wsgi_zasync.paste:filter_app_factory\n"
        "prefix = /a\nfilter-with = b\nrequire = wsgi-zasync\n"
        "[filter:b]\npaste.filter_factory = wsgi_zasync.paste:filter_factory\nprefix = /b\n"
        "[filter:c]\nuse = call:wsgi_zasync.paste:filter_factory\nprefix = /c\n"
    )

    assert [(name, conf) for name, (_, conf) in filters(file).items()] == [
        ("filter:a", {"prefix": "/a"}),
        ("filter:b", {"prefix": "/b"}),
        ("filter:c", {"prefix": "/c"}),
    ]


def test_other_peoples_filters_are_not_loaded(write, tmp_path):
    (tmp_path / "others.ini").write_text(
        "[filter:main]\npaste.filter_factory = collections:OrderedDict\n"
    )
    file = write(
        "[filter:a]\nuse = egg:absent#filter\n[filter:b]\npaste.filter_factory = absent:filter\n"
        "[filter:c]\nuse = call:absent:filter\n[filter:d]\na = b\n[app:e]\nuse = egg:wsgi_zasync\n"
        "[filter:f]\nuse = g\n[filter:g]\npaste.filter_factory = absent:f\n"
        "[filter:h]\nuse = config:others.ini\n"
    )

    assert filters(file) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("get prefix = yours\n", r"\[filter:zasync\] get: \[DEFAULT\] has no yours"),
        ("prefix = 100%\n", r"\[filter:zasync\].*write %% for a percent sign"),
        ("require = absent\n", r"\[filter:zasync\].*absent"),
        ("[filter:b]\nuse = config:absent.ini\n", r"\[filter:b\].*No such file.*absent.ini"),
        ("[filter:b]\nuse = absent\n", r"\[filter:b\].*No section 'absent'"),
        ("[filter:b]\nuse = b\n", r"\[filter:b\].*recursion"),
        ("[filter:b]\na\n", r"site\.ini: .*parsing errors"),
    ],
)
def test_what_pastedeploy_could_not_read_is_told_with_its_section(write, text, said):
    with pytest.raises(ConfigurationError, match=rf"(?s)site\.ini.*{said}|{said}"):
        filters(write(f"[filter:zasync]\nuse = egg:wsgi_zasync\n{text}"))


# -- workers --------------------------------------------------------------------------------


def test_the_worker_section_is_read_with_the_defaults(write, tmp_path):
    global_conf, local_conf = worker(write(BASE))

    assert local_conf == {"threads": "4", "grace": "5"}
    assert global_conf["zodb_uri"] == f"file://{tmp_path}/Data.fs"
    assert global_conf["__file__"] == str(tmp_path / "site.ini")


def test_what_a_worker_says_itself_comes_before_the_defaults(write):
    file = write(
        "[DEFAULT]\nzodb_uri = file:///a.fs\nthreads = 4\n"
        "[worker:main]\nuse: egg:wsgi_zasync#worker\n"
        "zodb_uri: zeo://localhost:8100?wait=5\nthreads = 4\n"
    )

    # Also where it says the same
    assert worker(file)[1] == {"zodb_uri": "zeo://localhost:8100?wait=5", "threads": "4"}


def test_a_worker_that_is_made_of_another_has_what_that_one_says(write, base, tmp_path):
    file = write(
        "[DEFAULT]\nsite = mine\n[worker:main]\nuse = config:etc/base.ini#main\ngrace = 6\n"
        "[worker:night]\nuse = main\nserves = night\nsite = nights\n"
    )

    for_main, for_night = worker(file), worker(file, "night")

    assert for_main[1] == {"threads": "4", "grace": "6"}
    assert for_night[1] == {"threads": "4", "grace": "6", "serves": "night", "site": "nights"}
    for global_conf, _ in (for_main, for_night):
        assert global_conf["zodb_uri"] == f"file://{tmp_path}/etc/Data.fs"
        assert global_conf["site"] == "mine"


def test_a_worker_section_that_is_not_there_or_uses_nothing_is_said_so(write):
    file = write(
        "[worker:main]\ngrace = 5\n[worker:b]\nuse = egg:absent#worker\n"
        "[worker:c]\nuse = %(x)s\n[worker:d]\nuse = egg:wsgi_zasync\n"
        "[worker:e]\nuse = call:wsgi_zasync.paste:worker_factory\n"
    )

    with pytest.raises(ConfigurationError, match=r"no section \[worker:other\]"):
        worker(file, "other")
    for name in ("main", "b", "d", "e"):
        with pytest.raises(ConfigurationError, match="write use = egg:wsgi_zasync#worker"):
            worker(file, name)
    with pytest.raises(ConfigurationError, match=r"\[worker:c\]"):
        worker(file, "c")


def test_set_and_get_are_understood_in_a_worker_section(write):
    file = write(
        "[DEFAULT]\nsite = one\nshared = env:SECRET\n"
        "[worker:main]\nuse = egg:wsgi_zasync#worker\nset site = two\nget secret = shared\n"
        "[worker:b]\nuse = egg:wsgi_zasync#worker\nget secret = nothing\n"
    )

    global_conf, local_conf = worker(file)

    assert global_conf["site"] == "two"
    assert local_conf == {"secret": "env:SECRET"}
    with pytest.raises(ConfigurationError, match=r"\[worker:b\] get: \[DEFAULT\] has no nothing"):
        worker(file, "b")
