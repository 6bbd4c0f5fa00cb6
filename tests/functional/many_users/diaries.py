# SPDX-License-Identifier: ZPL-2.1
"""The application of this test: everybody has a diary, and nobody may write in another one's.

Served in the web processes, and imported by the workers, which write in the diaries.
"""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs

from BTrees.OOBTree import OOBTree
from persistent import Persistent

from wsgi_zasync import expose, get_manager

USERS = tuple(f"user{number:02}" for number in range(20))

#: What is written in one's own diary when a page was read.
OWN = "python: diary.write(user.id, call.id, result['url'], result['text'])"
#: What must not come to pass: the same in a neighbour's.
TRESPASS = "python: neighbours.write(user.id, call.id, result['url'], result['text'])"


@expose(write="write")
class Diary(Persistent):
    """Entries by call. Its list says that its user may write in it, and nobody else."""

    def __init__(self, user):
        self.user = user
        self.entries = OOBTree()
        self.__acl__ = (
            ("Allow", f"user:{user}", ("write",)),
            ("Deny", "system.Everyone", ("write",)),
        )

    def write(self, *what):
        """One more line about the call; a second one stands beside the first."""
        self.entries[what[1]] = (*self.entries.get(what[1], ()), what)


def prepare(root):
    """A diary for each user."""
    root["diaries"] = OOBTree({user: Diary(user) for user in USERS})


def credentials(user):
    """What a user sends to be known."""
    return "Basic " + base64.b64encode(f"{user}:secret of {user}".encode()).decode()


def identify(environ):
    """Who it is, by name and password."""
    known = {credentials(user): user for user in USERS}
    return known.get(environ.get("HTTP_AUTHORIZATION"))


def app_factory(global_conf):
    return application


def application(environ, start_response):
    """POST: read each page of the query, write in one's diary what it says; the calls' ids."""
    calls = get_manager(environ)
    user = calls.principal.id
    query = parse_qs(environ["QUERY_STRING"])
    diaries = calls.root["diaries"]
    ids = {}
    for url in query["page"]:
        call = calls.put("http.get", url)
        call.on_success(OWN, diary=diaries[user])
        if url in query.get("trespass", ()):
            neighbour = USERS[(USERS.index(user) + 1) % len(USERS)]
            call.on_success(TRESPASS, neighbours=diaries[neighbour])
        ids[url] = call.id
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(ids).encode()]
