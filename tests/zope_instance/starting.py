# SPDX-License-Identifier: ZPL-2.1
"""A Zope site in a process of its own, made as docs/howto/host-zope.rst says.

Not in the tests' own process: Zope changes what all of them have in common, such as the security
policy, class factories and the global registry of components.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import subprocess
import sys
import textwrap
from itertools import count
from pathlib import Path
from urllib.parse import urlencode

from tests.http_answer import Answer

ROOT = Path(__file__).resolve().parents[2]

#: Seconds after which something that should have happened long ago is a failure.
PATIENCE = 60.0

ZOPE_CONF = """
instancehome {instance}
<zodb_db main>
  <filestorage>
    path {instance}/Data.fs
  </filestorage>
  mount-point /
</zodb_db>
"""

SITE_ZCML = """
<configure xmlns="http://namespaces.zope.org/zope">
  <include package="Products.Five"/>
  <include package="tests.zope_instance" file="views.zcml"/>
  <include package="my_site"/>
</configure>
"""

CONFIGURE_ZCML = """
<configure xmlns="http://namespaces.zope.org/zope"
           xmlns:browser="http://namespaces.zope.org/browser">
{documented}
</configure>
"""

PASTE_INI = """
[app:zope]
paste.app_factory = tests.zope_instance.serving:zope_factory
zope_conf = {instance}/zope.conf

[pipeline:published]
pipeline = egg:Zope#httpexceptions zope

[plugins]
open = tests.zope_instance.views:opened
guarded = tests.zope_instance.views:guarded
closed = tests.zope_instance.views:closed

[permissions]
edit = user:acl_users:editor

{documented}
"""


def documented(language: str) -> str:
    """What the page of the documentation has to be copied, in one language."""
    page = (ROOT / "docs/howto/host-zope.rst").read_text(encoding="utf-8")
    pattern = rf"^\.\. code-block:: {language}\n((?: +.*\n|\s*\n)+)"
    return "\n".join(textwrap.dedent(each) for each in re.findall(pattern, page, re.MULTILINE))


def make_instance(instance: Path, zope_conf: str) -> None:
    """Write what Zope and PasteDeploy read."""
    package = instance / "my_site"
    for directory in (package, instance / "etc"):
        directory.mkdir()
    files = {
        "zope.conf": (ZOPE_CONF + zope_conf).format(instance=instance),
        "paste.ini": PASTE_INI.format(instance=instance, documented=documented("ini")),
        "etc/site.zcml": SITE_ZCML,
        "my_site/__init__.py": "",
        "my_site/zope.py": documented("python"),
        "my_site/configure.zcml": CONFIGURE_ZCML.format(documented=documented("xml")),
    }
    for name, text in files.items():
        (instance / name).write_text(text, encoding="utf-8")


class Site:
    """The site, as its users and the tests meet it."""

    def __init__(self, instance: Path, zope_conf: str = "") -> None:
        make_instance(instance, zope_conf)
        self._log = (instance / "output.log").open("w+")
        command = [sys.executable, "-W", "ignore", "-m", "tests.zope_instance.serving"]
        self._process = subprocess.Popen(
            [*command, str(instance)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._address = self._process.stdout.readline().strip().removeprefix("http://")
        assert self._address, f"the site did not begin: {self.output()}"
        self._numbers = count()

    @property
    def origin(self) -> str:
        """What its own pages say where they come from."""
        return f"http://{self._address}"

    def output(self) -> str:
        """What the process has said of errors."""
        self._log.seek(0)
        return self._log.read()

    def ask(self, path, user=None, method="GET", headers=(), body=None, **form) -> Answer:
        """Make a request, as this user."""
        sent = dict(headers)
        if user is not None:
            sent["Authorization"] = "Basic " + base64.b64encode(f"{user}:secret".encode()).decode()
        if form:
            path += "?" + urlencode(form)
        connection = http.client.HTTPConnection(self._address, timeout=PATIENCE)
        try:
            connection.request(method, path, body, sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def say(self, address: str, **arguments):
        """Use one of the addresses of ``serving.Site``."""
        answer = self.ask(f"/-/{address}", method="POST", body=json.dumps(arguments))
        assert answer.status == 200, self.output()
        return answer.json

    def user(self, *roles: str) -> str:
        """Somebody new, whose calls are no other test's; returns the name."""
        name = f"user{next(self._numbers)}"
        self.say("user", name=name, roles=list(roles))
        return name

    def script(self, owner: str, text: str, **more) -> str:
        """A script of somebody's; returns its id."""
        id = f"script{next(self._numbers)}"
        self.say("script", id=id, owner=owner, text=text, **more)
        return id

    def stored(self, user: str, pipeline: str = "main", source: str = "acl_users"):
        """The calls that a user has."""
        return self.say("stored", owner=[source, user], pipeline=pipeline)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()
        self._log.close()
