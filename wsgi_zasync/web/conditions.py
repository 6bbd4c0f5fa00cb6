# SPDX-License-Identifier: ZPL-2.1
"""What a client says of the versions that it knows (RFC 9110, section 13).

``webob.etag`` reads only tags with a blank before them, and servers that join two headers of one
name write none.
"""

from __future__ import annotations

import re

_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def names(tags: str, etag: str) -> bool:
    """Whether the tags of an ``If-None-Match`` name this version, as ``*`` does.

    A tag that was made weak on its way counts: a proxy that compresses the answer does that.
    """
    return tags.strip() == "*" or etag in _TAG.findall(tags)
