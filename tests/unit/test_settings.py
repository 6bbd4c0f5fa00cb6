# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import os.path
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from wsgi_zasync.configuration.key_table import rows
from wsgi_zasync.errors import ConfigurationError
from wsgi_zasync.settings import MiddlewareSettings, Quotas, SharedSettings, WorkerSettings

SECRET = "k" * 40
ZEO = "zeo://127.0.0.1:8100"


class Policy:
    """A SecurityPolicy, as far as its methods go: only its identity matters here."""

    def principal_now(self, principal, root):
        return principal

    def allows(self, principal, permission, object):
        return False

    def root_for(self, principal, root):
        return None


@pytest.fixture
def site(tmp_path):
    def write(text):
        path = tmp_path / "site.ini"
        path.write_text(text)
        return {"__file__": str(path), "here": str(tmp_path)}

    return write


# -- the table -------------------------------------------------------------------------


@pytest.mark.parametrize("side", [MiddlewareSettings, WorkerSettings])
def test_every_key_says_what_it_means(side):
    assert all(row.doc for row in rows(side))


@pytest.mark.parametrize("side", [MiddlewareSettings, WorkerSettings])
def test_no_two_keys_have_one_name(side):
    names = [row.name for row in rows(side)]

    assert len(names) == len(set(names))


@pytest.mark.parametrize("side", [MiddlewareSettings, WorkerSettings])
def test_every_default_is_what_its_own_reader_gives_back(side):
    for row in rows(side):
        if row.default is not None and "here" not in row.marks:
            assert row.read(row.default) == row.default, row.name


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("max_open_calls", 1000),
        ("max_stored_calls", 10_000),
        ("max_owner_bytes", 100 * 1024**2),
        ("max_argument_bytes", 64 * 1024),
        ("max_result_bytes", 1024**2),
        ("max_callbacks", 16),
        ("max_expression_length", 4096),
        ("max_owner_retries", 10),
        ("max_ahead", 365 * 86400.0),
        ("max_unsent_messages", 100),
        ("max_message_bytes", 64 * 1024),
        ("max_events", 100),
        ("max_event_bytes", 16 * 1024),
        ("max_callback_puts", 100),
        ("max_depth", 8),
        ("max_descendants", 1000),
    ],
)
def test_limits_have_the_numbers_of_the_threat_model(name, default):
    assert getattr(Quotas(), name) == default
    assert getattr(MiddlewareSettings.from_kwargs(**{name: "7"}).quotas, name) == 7


# -- keyword arguments -------------------------------------------------------------------


def test_without_anything_the_middleware_has_its_defaults():
    settings = MiddlewareSettings.from_kwargs()

    assert (settings.prefix, settings.worker, settings.anonymous) == ("/_zasync", "none", "no")
    assert settings.quotas == Quotas()
    assert settings.masked() == {}


def test_keyword_arguments_take_python_values_and_text_alike():
    python = WorkerSettings.from_kwargs(
        db="a db", grace=timedelta(minutes=1), serves=["a", "b"], insecure_zeo=True, policy=Policy()
    )
    text = WorkerSettings.from_kwargs(
        db="a db", grace="1m", serves="a b", insecure_zeo="yes", policy=python.policy
    )

    assert python == text


def test_none_means_the_default():
    assert WorkerSettings.from_kwargs(db="a db", grace=None, name=None).grace == 30.0


def test_a_policy_that_is_a_class_is_instantiated():
    assert type(MiddlewareSettings.from_kwargs(policy=Policy).policy) is Policy
    policy = Policy()
    assert MiddlewareSettings.from_kwargs(policy=policy).policy is policy


class Curious:
    """A policy whose class wants to know something."""

    def __init__(self, directory):
        self.directory = directory


class Later(Policy):
    """A policy that has to ask elsewhere."""

    async def allows(self, principal, permission, object):
        return False


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (5, "lacks a method of SecurityPolicy"),
        (dict, "principal_now"),
        (len, "principal_now"),
        (Curious, "name an instance"),
        (Later, "allows is async.* write def"),
    ],
)
def test_a_policy_that_cannot_be_asked_is_refused(policy, said):
    for settings in (MiddlewareSettings, WorkerSettings):
        with pytest.raises(ConfigurationError, match=said):
            settings.from_kwargs(db="a db", policy=policy)


def test_dotted_names_are_imported():
    settings = MiddlewareSettings.from_kwargs(identity="os.path:join", veto=len)

    assert settings.identity is os.path.join
    assert settings.veto is len


def test_tables_are_mappings_of_words():
    settings = MiddlewareSettings.from_kwargs(
        roles={"alice": ["editor"]}, permissions={"edit": "role:editor user:bob"}
    )

    assert settings.roles == {"alice": ("editor",)}
    assert settings.permissions == {"edit": ("role:editor", "user:bob")}


@pytest.mark.parametrize(
    ("side", "given", "said"),
    [
        (MiddlewareSettings, {"zodb_url": "x"}, "zodb_url: unknown key; did you mean zodb_uri"),
        (MiddlewareSettings, {"qqq": "x"}, "qqq: unknown key; the known ones are "),
        (MiddlewareSettings, {"app": "main"}, "app: is a key of WorkerSettings"),
        (WorkerSettings, {"db": 1, "prefix": "/x"}, "prefix: is a key of MiddlewareSettings"),
        (MiddlewareSettings, {"quotas": Quotas()}, "quotas: unknown key"),
        (MiddlewareSettings, {"worker": "embeded"}, "worker: write none or embedded"),
        (MiddlewareSettings, {"waiters": "many"}, "waiters: write a whole number"),
        (MiddlewareSettings, {"identity": "nowhere:x"}, "identity: nowhere cannot be imported"),
        (MiddlewareSettings, {"secret": "short"}, "secret: .*at least 32 are needed"),
        (MiddlewareSettings, {"roles": "alice"}, "roles: write a section of its own"),
        (MiddlewareSettings, {"db": 1, "zodb_uri": "memory://"}, "db and zodb_uri exclude"),
        (MiddlewareSettings, {"zodb_conf": "absent.conf"}, "zodb_conf: there is no file absent"),
        (MiddlewareSettings, {"zodb_uri": ZEO}, "secret is missing"),
        (WorkerSettings, {}, "a worker needs a database"),
        (WorkerSettings, {"zodb_uri": "zeo://10.0.0.1:1", "secret": SECRET}, "insecure_zeo = yes"),
    ],
)
def test_wrong_arguments_are_answered_with_the_key_and_what_to_write(side, given, said):
    with pytest.raises(ConfigurationError, match=said):
        side.from_kwargs(**given)


def test_an_open_zeo_is_accepted_where_it_is_asked_for():
    settings = WorkerSettings.from_kwargs(
        zodb_uri="zeo://10.0.0.1:1", secret=SECRET, insecure_zeo="yes"
    )

    assert settings.zodb_uri == "zeo://10.0.0.1:1"


def test_nothing_secret_is_shown():
    settings = WorkerSettings.from_kwargs(
        zodb_uri="zeo://ann:hunter2@127.0.0.1:8100",
        secret=SECRET,
        plugin_options={"ldap": {"password": "hunter2"}},
        app=object(),
        grace=5,
    )

    shown = f"{settings!r} {settings} {settings.masked()}"
    assert "hunter2" not in shown
    assert SECRET not in shown
    assert settings.masked() == {
        "zodb_uri": "zeo://***@127.0.0.1:8100",
        "secret": "***",
        "plugin_options": "{ldap}",
        "app": "<object>",
        "grace": "5.0",
    }


def test_an_embedded_worker_has_the_middlewares_settings_on_its_database():
    settings = MiddlewareSettings.from_kwargs(
        zodb_uri="memory://", worker="embedded", threads=3, roles={"a": "b"}, max_callbacks=2
    )

    worker = settings.for_embedded_worker("the db")

    assert (worker.db, worker.zodb_uri) == ("the db", None)
    assert (worker.threads, worker.roles, worker.quotas.max_callbacks) == (3, {"a": ("b",)}, 2)


# -- PasteDeploy ---------------------------------------------------------------------------


def test_paste_settings_come_with_the_shared_sections_of_the_file(site):
    conf = site(
        "[filter:x]\n[plugins]\na.b = c:d\n[plugin:a.b]\ntimeout = 5\n"
        "[roles]\nalice = editor\n[permissions]\nedit = role:editor\n"
    )

    for side in (MiddlewareSettings, WorkerSettings):
        settings = side.from_paste(conf, zodb_uri="memory://")
        assert isinstance(settings, SharedSettings)
        assert settings.plugins == {"a.b": "c:d"}
        assert settings.plugin_options == {"a.b": {"timeout": "5"}}
        assert settings.roles == {"alice": ("editor",)}
        assert settings.permissions == {"edit": ("role:editor",)}


def test_paste_settings_work_without_a_file():
    assert MiddlewareSettings.from_paste({}, prefix="/x").prefix == "/x"
    assert MiddlewareSettings.from_paste(None).prefix == "/_zasync"


def test_keys_of_both_sides_may_stand_in_default(site):
    conf = site("") | {"zodb_uri": "memory://", "debug": "yes", "grace": "5"}

    settings = WorkerSettings.from_paste(conf)

    assert settings.zodb_uri == "memory://"
    assert settings.grace == 30.0


def test_paths_start_from_the_directory_of_the_file(site, tmp_path):
    conf = site("")
    (tmp_path / "zodb.conf").write_text("")
    (tmp_path / "key").write_text(SECRET)

    settings = WorkerSettings.from_paste(conf, zodb_conf="zodb.conf", secret="file:key")

    assert settings.zodb_conf == tmp_path / "zodb.conf"
    assert settings.secret is not None
    assert settings.secret.values == (SECRET.encode(),)


def test_a_wrong_value_in_a_file_is_named_by_file_section_and_key(site, tmp_path):
    conf = site("[filter:zasync]\nwaiters = many\n[worker:main]\ngrace = soon\n")

    with pytest.raises(ConfigurationError) as web:
        MiddlewareSettings.from_paste(conf, waiters="many")
    with pytest.raises(ConfigurationError) as worker:
        WorkerSettings.from_paste(conf, zodb_uri="memory://", grace="soon")

    assert f"{tmp_path}/site.ini [filter:zasync] waiters: write a whole" in str(web.value)
    assert f"{tmp_path}/site.ini [worker:main] grace: write seconds" in str(worker.value)


def test_what_cannot_be_true_together_is_said_of_the_file(site, tmp_path):
    with pytest.raises(ConfigurationError, match=r"site\.ini: zodb_uri and zodb_conf exclude"):
        (tmp_path / "zodb.conf").write_text("")
        MiddlewareSettings.from_paste(site(""), zodb_uri="memory://", zodb_conf="zodb.conf")


def test_sections_cannot_be_written_as_keys(site):
    with pytest.raises(ConfigurationError, match="write a section of its own"):
        MiddlewareSettings.from_paste(site("[filter:x]\n"), plugins="a=b")


def test_the_embedded_worker_reads_its_section_of_the_file(site):
    conf = site(
        "[filter:x]\n[worker:main]\nuse = egg:wsgi_zasync#worker\n"
        f"zodb_uri = {ZEO}\nthreads = 3\ngrace = 5\napp = main\n"
    )

    embedded = MiddlewareSettings.from_paste(
        conf, zodb_uri="memory://", worker="embedded", grace="7"
    )
    apart = MiddlewareSettings.from_paste(conf, zodb_uri="memory://")

    assert (embedded.threads, embedded.grace, embedded.zodb_uri) == (3, 7.0, "memory://")
    assert (apart.threads, apart.grace) == (8, 30.0)


def test_the_reference_of_the_documentation_has_every_key_as_it_is():
    root = Path(__file__).parents[2]
    script = [sys.executable, str(root / "scripts" / "settings_reference.py")]

    printed = subprocess.run(
        script, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, check=True
    )

    written = (root / "docs" / "reference" / "settings.rst").read_text(encoding="utf-8")
    assert printed.stdout.decode() == written, f"run {script[1]}"


@pytest.mark.parametrize("side", [MiddlewareSettings, WorkerSettings])
def test_an_address_through_a_directory_with_a_question_mark_is_refused(tmp_path, side):
    """It would be that of another file, without a word."""
    directory = tmp_path / "what?now"
    directory.mkdir()
    path = directory / "site.ini"
    path.write_text("")
    given = {"__file__": str(path), "here": str(directory)}

    with pytest.raises(ConfigurationError, match=r"what\?now has one: name the storage in a zodb_"):
        side.from_paste(given, zodb_uri=f"file://{directory}/Data.fs")

    elsewhere = side.from_paste(given, zodb_uri="file:///srv/Data.fs?connection_pool_size=9")
    assert elsewhere.zodb_uri == "file:///srv/Data.fs?connection_pool_size=9"
