# SPDX-License-Identifier: ZPL-2.1
"""The options of a put: their names, and moments at the edge of what can be told."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest

from wsgi_zasync import InvalidArguments
from wsgi_zasync.manager.options import Options, PutOptions
from wsgi_zasync.settings import Quotas
from wsgi_zasync.testing import calls_of, deployment_of

EAST, WEST = timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))


class Broken(tzinfo):
    def utcoffset(self, when):
        raise ValueError("its database is away")


@pytest.fixture
def calls(db):
    deployment = deployment_of({"render": lambda attempt: None}, quotas=Quotas(max_ahead=1e12))
    with calls_of(db, "ann", deployment) as found:
        yield found


@pytest.mark.parametrize("name", ["begin_after", "expires"])
@pytest.mark.parametrize(
    "given",
    [
        datetime.min.replace(tzinfo=EAST),
        datetime.max.replace(tzinfo=WEST),
        datetime(2027, 1, 1, tzinfo=Broken()),
        datetime(2027, 1, 1, tzinfo=tzinfo()),
        3e11,
    ],
)
def test_a_moment_that_cannot_be_told_in_utc_is_refused_before_it_is_stored(calls, name, given):
    # Such a call could not be shown to its owner, nor could any list that it is in.
    with pytest.raises(InvalidArguments) as caught:
        calls.options(**{name: given}).put("render")
    assert caught.value.path == name


@pytest.mark.parametrize("given", ["2027-01-01T00:00:00Z", date(2027, 1, 1)])
def test_what_is_no_moment_is_told_all_that_one_may_be(calls, given):
    for name in ("begin_after", "expires"):
        with pytest.raises(InvalidArguments, match="seconds, a timedelta or an aware datetime"):
            calls.options(**{name: given})
    for name in ("timeout", "keep"):
        with pytest.raises(InvalidArguments, match="must be seconds or a timedelta, not"):
            calls.options(**{name: given})


@pytest.mark.parametrize(
    "given",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=WEST),
        datetime.max.replace(tzinfo=EAST),
        datetime(2024, 2, 29, tzinfo=UTC),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin")),
        datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    ],
)
def test_every_other_moment_is_shown_as_it_was_given(calls, given):
    call = calls.options(begin_after=given, expires=given).put("render")
    assert call.due == call.expires == given.astimezone(UTC)
    assert call.to_dict()["due"]


def test_type_checkers_know_the_same_options():
    assert Options.__annotations__.keys() == {field.name for field in fields(PutOptions)}
