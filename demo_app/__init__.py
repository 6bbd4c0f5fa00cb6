# SPDX-License-Identifier: ZPL-2.1
"""A shelf of links: what ``wsgi_zasync`` is for, in an application that fits on a few pages.

- ``application`` puts calls in the request's own transaction and answers at once.
- ``plugins`` does the work in the worker: one plugin in the reactor, one in a transaction.
- ``shelf`` is what the callback expressions write to, as the user who asked, and only there.
- ``session`` is how this application knows its users; the middleware asks it (``identity``).
- ``static/shelf.js`` waits for calls by ``/_zasync/calls/ID?wait=``. Without it all works too.
- ``samples`` are pages to put on a shelf when there is no network.
"""

from __future__ import annotations
