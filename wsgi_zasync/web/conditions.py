# SPDX-License-Identifier: ZPL-2.1
"""What a client says of the versions that it knows (RFC 9110, section 13).

``webob.etag`` reads only tags with a blank before them, and servers that join two headers of one
name write none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TAG = re.compile(r'(W/)?"([^"]*)"')


def is_known(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-None-Match`` names this version, as ``*`` does.

    A tag that was made weak on its way counts: a proxy that compresses the answer does that.
    """
    return _names(headers.get("If-None-Match", ""), etag, {"", "W/"})


def is_wanted(headers: Mapping[str, str], etag: str) -> bool:
    """Whether ``If-Match``, if it is there, names this version, and not by a weak tag."""
    tags = headers.get("If-Match")
    return tags is None or _names(tags, etag, {""})


def may_change(headers: Mapping[str, str], etag: str) -> bool:
    """Whether a call of this version may be changed by the request."""
    return is_wanted(headers, etag) and not is_known(headers, etag)


def _names(tags: str, etag: str, strengths: set[str]) -> bool:
    if tags.strip() == "*":
        return True
    return any(tag == etag and strength in strengths for strength, tag in _TAG.findall(tags))
