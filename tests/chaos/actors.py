# SPDX-License-Identifier: ZPL-2.1
"""The processes that a chaos test kills: producers and workers of one site.

Run as ``python actors.py worker|producer SOCKET NAME …``; neither is told that it will be killed.
"""

from __future__ import annotations

import logging
import os
import sys
import threading

import ZODB
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from ZEO.ClientStorage import ClientStorage
from ZODB.POSException import ConflictError

from wsgi_zasync import RetryPolicy, expose, plugin
from wsgi_zasync.settings import Quotas
from wsgi_zasync.testing import calls_of, deployment_of

#: Effects are spread over so many trees, so that workers seldom conflict.
TREES = 64

QUOTAS = {"max_open_calls": 10**6, "max_stored_calls": 10**6, "max_owner_bytes": 10**9}


@plugin("chaos.effect", runs="transaction", retry=RetryPolicy(attempts=1, interruptions=1000))
def effect(attempt, number):
    """Count an effect of this call."""
    tree = attempt.root["effects"][number % TREES]
    tree[attempt.call_id] = tree.get(attempt.call_id, 0) + 1
    return number


@plugin("chaos.slow", runs="transaction")
def slow(attempt, directory):
    """Say that it has begun, and go on when it is told to."""
    with open(f"{directory}/begun", "a") as begun:
        begun.write(f"{os.getpid()}\n")
    while not os.path.exists(f"{directory}/go"):
        threading.Event().wait(0.02)
    return effect(attempt, 0)


@expose("one")
class Marks(Persistent):
    """Counts the effects of callbacks, by call."""

    def __init__(self):
        self.of_calls = OOBTree()

    def one(self, call_id):
        """One effect more."""
        self.of_calls[call_id] = self.of_calls.get(call_id, 0) + 1


#: What each call has its callback do.
MARK = "python: marks.one(call.id)"

PLUGINS = {"chaos.effect": effect, "chaos.slow": slow}


def open_db(socket):
    """A client of the ZEO server, which may be away for a moment."""
    return ZODB.DB(ClientStorage(socket, wait_timeout=60), cache_size=10_000)


def prepare(db, producers):
    """What producers, plugins and callbacks write to."""
    with db.transaction() as connection:
        root = connection.root()
        root["effects"] = tuple(OOBTree() for _ in range(TREES))
        root["marks"] = tuple(Marks() for _ in range(TREES))
        root["ledger"] = {name: OOBTree() for name in producers}


def produce(socket, name, count, pace):
    """Put ``count`` calls, one a transaction, each entered in the ledger in the same one.

    ``pace`` is the seconds between two, so that there is somebody to kill for long enough.
    """
    pause = threading.Event()
    db = open_db(socket)
    deployment = deployment_of(PLUGINS, quotas=Quotas(**QUOTAS))
    number = -1
    while number < count:
        try:
            with calls_of(db, name, deployment) as calls:
                ledger = calls.root["ledger"][name]
                number = ledger.maxKey() + 1 if ledger else 0
                if number >= count:
                    break
                call = calls.put("chaos.effect", number)
                call.on_success(MARK, marks=calls.root["marks"][number % TREES])
                ledger[number] = call.id
            pause.wait(pace)
        except ConflictError:
            continue
        except Exception as exc:  # the server is killed, too
            logging.info("producer %s: %s", name, exc)
            pause.wait(0.1)
    db.close()


def work(socket, name, dead_after, named):
    """Be a worker until killed."""
    from wsgi_zasync.worker import Worker

    worker = Worker(
        open_db(socket),
        plugins=PLUGINS,
        name=name if named == "named" else None,
        threads=3,
        dead_after=float(dead_after),
        secret=None,
        **QUOTAS,
    )
    worker.start()
    threading.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    role, socket, name, *rest = sys.argv[1:]
    if role == "worker":
        work(socket, name, *rest)
    else:
        produce(socket, name, int(rest[0]), float(rest[1]))
