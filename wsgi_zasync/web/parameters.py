# SPDX-License-Identifier: ZPL-2.1
"""The parameters of a request at our addresses: what a query or a form says, and must say."""

from __future__ import annotations

import math
from urllib.parse import parse_qsl

from webob import Request

#: How many calls a list has where the client does not say, and at most.
DEFAULT_LIMIT = 50
MAX_LIMIT = 200

#: Parameters that a query or form may have.
MAX_PARAMETERS = 100

#: Bytes of a form that are read.
MAX_FORM_BYTES = 65_536


class BadParameter(Exception):
    """A query or form says what nobody can mean; its text tells the client."""

    @classmethod
    def of(cls, name: str, wanted: str) -> BadParameter:
        """The one for a parameter that must be something else."""
        return cls(f"The parameter {name} must be {wanted}.")


def of_query(request: Request, name: str) -> str | None:
    """A parameter of the query; bytes that are not UTF-8 come out as question marks.

    Raises:
        BadParameter: There are too many to be read.
    """
    return _first(request.query_string, name)


def of_form(request: Request, name: str) -> str | None:
    """A field of the form that was posted; None: there is none, or it is no form of ours.

    Raises:
        BadParameter: There are too many to be read.
    """
    length = request.content_length
    # A negative one would read all that the client sends.
    if request.method != "POST" or length not in range(1, MAX_FORM_BYTES + 1):
        return None
    if request.content_type != "application/x-www-form-urlencoded":
        return None
    return _first(request.environ["wsgi.input"].read(length).decode("ascii", "replace"), name)


def _first(encoded: str, name: str) -> str | None:
    try:
        fields = parse_qsl(encoded, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError as exc:
        raise BadParameter(f"There may be {MAX_PARAMETERS} parameters.") from exc
    return next((value for key, value in fields if key == name), None)


def wait_seconds(request: Request) -> float | None:
    """How long the client wants to wait for news; None: not at all.

    Raises:
        BadParameter: It is no length of time.
    """
    text = of_query(request, "wait")
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise BadParameter.of("wait", "a number of seconds")
    return seconds


def limit(request: Request) -> int:
    """How many calls a list is to have at most.

    Raises:
        BadParameter: It is no such number.
    """
    text = of_query(request, "limit")
    if text is None:
        return DEFAULT_LIMIT
    if not text.isascii() or not text.isdigit() or len(text) > 6 or int(text) < 1:
        raise BadParameter.of("limit", f"a number from 1 to {MAX_LIMIT}")
    return min(int(text), MAX_LIMIT)
