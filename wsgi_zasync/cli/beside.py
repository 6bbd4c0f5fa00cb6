# SPDX-License-Identifier: ZPL-2.1
"""How a command works beside a running site that has its FileStorage open: by the site's socket."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import ZODB

from ..own_file import address_of, answers, file_of, socket_beside
from ..settings import SharedSettings

#: Seconds to wait for the site to answer: it did a moment ago.
CONNECT_SECONDS = 5

_Settings = TypeVar("_Settings", bound=SharedSettings)


def beside_site(settings: _Settings) -> _Settings:
    """The same settings; where a running site serves the file of ``zodb_uri``, through it."""
    uri = settings.zodb_uri
    file = None if uri is None else file_of(uri)
    if uri is None or file is None or not answers(socket_beside(file)):
        return settings
    return settings.evolve(zodb_uri=None, db=partial(_open, uri, socket_beside(file)))


def _open(uri: str, path: Path) -> Any:
    """The database that the address names, through the site that has it open."""
    # Both load ZEO.
    from ZEO.ClientStorage import ClientStorage
    from zodburi import resolve_uri

    _, options = resolve_uri(uri)
    blobs = dict(parse_qsl(uri.partition("?")[2])).get("blobstorage_dir")
    shared = {"blob_dir": blobs, "shared_blob_dir": True} if blobs else {}
    storage = ClientStorage(address_of(path), wait_timeout=CONNECT_SECONDS, **shared)
    try:
        return ZODB.DB(storage, **options)
    except BaseException:
        storage.close()
        raise
