# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import errno
import os
import secrets
import stat

import pytest
from ZODB.blob import BlobStorage
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from wsgi_zasync.configuration.site_secrets import (
    SiteSecrets,
    kept_secret,
    read_secrets,
    secrets_for,
)
from wsgi_zasync.errors import ConfigurationError

LONG = "k" * 40


def test_secrets_come_from_the_environment_from_files_and_from_bytes(tmp_path):
    (tmp_path / "old").write_text("o" * 32 + "\n")

    found = read_secrets("env:NEW, file:old", tmp_path, {"NEW": LONG})

    assert found.values == (LONG.encode(), b"o" * 32)
    assert read_secrets(b"b" * 32).values == (b"b" * 32,)
    assert read_secrets(found) is found


def test_a_literal_is_accepted_if_it_is_long_enough():
    assert read_secrets(LONG).values == (LONG.encode(),)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "env:NAME or file:PATH"),
        ((), "env:NAME or file:PATH"),
        ("short", "at least 32 are needed"),
        (b"short", "at least 32 are needed"),
        ("env:SHORT", "SHORT has 7 bytes"),
        ("env:ABSENT", "ABSENT is not set"),
        ("file:absent", "absent cannot be read"),
        ([5], "not int"),
    ],
)
def test_what_is_no_secret_is_refused_without_being_shown(tmp_path, given, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_secrets(given, tmp_path, {"SHORT": "hunter2"})

    assert "hunter2" not in str(caught.value)


def test_secrets_never_show():
    secret = read_secrets("env:NEW", environ={"NEW": LONG})

    assert LONG not in f"{secret!r} {secret}"


def test_secrets_are_taken_out_of_the_environment_when_asked():
    environ = {"NEW": LONG, "HOME": "/home"}
    secret = read_secrets("env:NEW", environ=environ)

    secret.remove_from_environment(environ)
    secret.remove_from_environment(environ)

    assert environ == {"HOME": "/home"}


def test_the_environment_of_the_process_is_the_default(monkeypatch):
    monkeypatch.setenv("ZASYNC_TEST_SECRET", LONG)

    read_secrets("env:ZASYNC_TEST_SECRET").remove_from_environment()

    assert "ZASYNC_TEST_SECRET" not in os.environ


def test_a_file_storage_gets_a_secret_that_only_its_user_can_read(tmp_path):
    umask = os.umask(0)
    try:
        storage = FileStorage(str(tmp_path / "Data.fs"))
        first = secrets_for(None, storage)
        again = secrets_for(None, storage)
        storage.close()
    finally:
        os.umask(umask)

    path = tmp_path / "Data.fs.zasync-secret"
    assert first == again
    assert len(first.values[0]) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_storage_with_blobs_has_one_as_well(tmp_path):
    storage = BlobStorage(str(tmp_path / "blobs"), FileStorage(str(tmp_path / "Data.fs")))
    try:
        found = secrets_for(None, storage)
    finally:
        storage.close()

    assert found.values[0] == (tmp_path / "Data.fs.zasync-secret").read_bytes().strip()


def test_a_configured_secret_wins_over_the_storages_own(tmp_path):
    configured = SiteSecrets((b"c" * 32,))
    storage = FileStorage(str(tmp_path / "Data.fs"))

    assert secrets_for(configured, storage) is configured
    storage.close()
    assert not list(tmp_path.glob("*secret"))


def test_storages_in_memory_get_a_secret_of_this_process():
    mapping, demo = MappingStorage(), DemoStorage()

    assert secrets_for(None, mapping) != secrets_for(None, demo)
    mapping.close()
    demo.close()


def test_a_storage_that_others_share_needs_a_configured_secret():
    class ClientStorage:
        pass

    with pytest.raises(ConfigurationError, match="secret is missing"):
        secrets_for(None, ClientStorage())


def test_a_kept_secret_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "secret"
    kept_secret(path)
    path.chmod(0o640)

    with pytest.raises(ConfigurationError, match="chmod 600"):
        kept_secret(path)


def test_a_kept_secret_that_was_cut_short_is_refused(tmp_path):
    path = tmp_path / "secret"
    path.touch(0o600)

    with pytest.raises(ConfigurationError, match="0 bytes"):
        kept_secret(path)


def test_two_processes_that_make_a_secret_at_once_have_the_same_one(tmp_path, monkeypatch):
    path, token_hex, faster = tmp_path / "secret", secrets.token_hex, []

    def overtaken(size):
        monkeypatch.undo()
        faster.append(kept_secret(path))
        return token_hex(size)

    monkeypatch.setattr(secrets, "token_hex", overtaken)

    assert [kept_secret(path)] == faster
    assert [each.name for each in tmp_path.iterdir()] == ["secret"]


def test_a_disk_that_is_full_leaves_no_part_of_a_secret(tmp_path, monkeypatch):
    def full(size):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(ConfigurationError, match="No space"):
        patch.setattr(secrets, "token_hex", full)
        kept_secret(tmp_path / "secret")

    assert list(tmp_path.iterdir()) == []
    assert len(kept_secret(tmp_path / "secret").values[0]) >= 32


def test_a_secret_that_cannot_be_made_says_where(tmp_path):
    with pytest.raises(ConfigurationError, match="absent/secret"):
        kept_secret(tmp_path / "absent" / "secret")


def test_a_link_in_place_of_the_secret_is_not_written_through(tmp_path):
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(ConfigurationError):
        kept_secret(tmp_path / "secret")
    assert not (tmp_path / "elsewhere").exists()
