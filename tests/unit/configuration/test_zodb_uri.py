# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import pytest

from wsgi_zasync.configuration.zodb_uri import (
    may_be_shared,
    refuse_open_servers,
    refuse_open_zeo,
    without_password,
)
from wsgi_zasync.errors import ConfigurationError


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("zeo://127.0.0.1:8100", "zeo://127.0.0.1:8100"),
        ("postgres://ann:s3cret@db/zodb", "postgres://***@db/zodb"),
        ("zeo://h:1?username=a&password=b&wait=1", "zeo://h:1?username=a&password=***&wait=1"),
        ("postgres://ann:s3cr/e@t@db/zodb", "postgres://***@db/zodb"),
        ("no: zeo://ann:s3cret@h:1, sorry", "no: zeo://***@h:1, sorry"),
        ("file:///home/ann@site/Data.fs", "file:///home/ann@site/Data.fs"),
        ("file:///var/Data.fs?blobstorage_dir=/b", "file:///var/Data.fs?blobstorage_dir=/b"),
    ],
)
def test_passwords_are_not_shown(uri, shown):
    assert without_password(uri) == shown


@pytest.mark.parametrize(
    ("uri", "shared"),
    [
        ("file:///var/Data.fs", False),
        ("memory://", False),
        ("/var/Data.fs", False),
        ("zeo://127.0.0.1:8100", True),
        ("zeo:///var/zeo.sock", True),
        ("postgres://db/zodb", True),
        ("sqlite:///var/data", True),
        ("zconfig:///etc/zodb.conf", True),
        ("demo:(zeo://127.0.0.1:8100)/(memory://)", False),
        ("demo:(file://a)/(zeo://127.0.0.1:8100)", True),
    ],
)
def test_a_storage_that_others_may_open_is_told_by_its_address(uri, shared):
    assert may_be_shared(uri) is shared


@pytest.mark.parametrize(
    "uri",
    [
        "zeo://127.0.0.1:8100",
        "zeo://127.8.8.8",
        "zeo://localhost:1",
        "zeo://[::1]:8100",
        "zeo:///var/zeo.sock",
        "file:///var/Data.fs",
        "demo:(zeo://localhost:8100)/(memory://)",
    ],
)
def test_zeo_on_this_machine_only_is_accepted(uri):
    refuse_open_zeo(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "zeo://10.0.0.1:8100",
        "zeo://0.0.0.0:8100",
        "zeo://zeo.example.org",
        "zeo://[::]:8100",
        "zeo://localhost.example.org:8100",
        "zeo://127.0.0.1.example.org:8100",
        "demo:(zeo://10.0.0.1:8100)/(memory://)",
    ],
)
def test_zeo_that_others_reach_is_refused_with_what_to_do(uri):
    with pytest.raises(ConfigurationError, match="insecure_zeo = yes"):
        refuse_open_zeo(uri)


SERVERS = """
<zodb main>
  <zeoclient>
    server {server}
    {more}
  </zeoclient>
</zodb>
"""


@pytest.mark.parametrize("server", ["/var/zeo.sock", "8100", "127.0.0.1:8100", "localhost:8100"])
def test_servers_in_a_zconfig_file_on_this_machine_are_accepted(tmp_path, server):
    path = tmp_path / "zodb.conf"
    path.write_text(SERVERS.format(server=server, more="wait no"))

    refuse_open_servers(path)


def test_a_server_elsewhere_needs_tls(tmp_path):
    path = tmp_path / "zodb.conf"
    path.write_text(SERVERS.format(server="10.0.0.1:8100", more="# no <ssl"))
    with pytest.raises(ConfigurationError, match="ZEO at 10.0.0.1"):
        refuse_open_servers(path)

    path.write_text(SERVERS.format(server="10.0.0.1:8100", more="<ssl>\n    </ssl>"))
    refuse_open_servers(path)
