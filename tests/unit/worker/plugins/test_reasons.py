# SPDX-License-Identifier: ZPL-2.1
"""What Twisted's errors become."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    NoRouteError,
    TCPTimedOutError,
)
from twisted.python.failure import Failure
from twisted.web.client import (
    RequestGenerationFailed,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)

from wsgi_zasync.worker.plugins import failures
from wsgi_zasync.worker.plugins.reasons import NETWORK_ERRORS, explained
from wsgi_zasync.worker.plugins.urls import parse

TARGET = parse("https://example.org/path?token=S3CRET")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionRefusedError(), failures.ConnectionRefused),
        (TCPTimedOutError(), failures.ConnectionFailed),
        (NoRouteError(), failures.ConnectionFailed),
        (ConnectError(), failures.ConnectionFailed),
        (ConnectionLost(), failures.ProtocolFailed),
        (ResponseNeverReceived([Failure(ConnectionDone())]), failures.ProtocolFailed),
        (ResponseNeverReceived([Failure(CancelledError())]), CancelledError),
        (RequestTransmissionFailed([Failure(ConnectionLost())]), failures.ProtocolFailed),
        (RequestGenerationFailed([Failure(failures.TooLarge("x"))]), failures.TooLarge),
        (
            ResponseFailed([Failure(ResponseFailed([Failure(failures.AddressRefused())]))]),
            failures.AddressRefused,
        ),
        (ConnectingCancelledError(None), CancelledError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_an_error_of_the_network_is_explained(
    error: Exception, expected: type[BaseException]
) -> None:
    assert isinstance(error, NETWORK_ERRORS)
    found = explained(error, TARGET)
    assert type(found) is expected
    assert "S3CRET" not in str(found)
