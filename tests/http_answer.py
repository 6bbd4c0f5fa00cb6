# SPDX-License-Identifier: ZPL-2.1
"""What a server has answered, read to its end."""

from __future__ import annotations

import http.client
import json


class Answer:
    """One answer of a server."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> dict:
        return json.loads(self.body)
