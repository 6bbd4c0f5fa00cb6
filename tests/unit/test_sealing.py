# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsgi_zasync.errors import ConfigurationError, InvalidArguments
from wsgi_zasync.sealing import (
    CSRF,
    ETAG,
    SEALING,
    Keys,
    Sealed,
    Sealer,
    Secret,
    derive_key,
)

NEW, OLD = b"n" * 32, b"o" * 32


def test_a_secret_shows_as_stars_however_it_is_printed():
    secret = Secret("hunter2")

    assert {repr(secret), str(secret), f"{secret}", f"{secret:>9}", "%s" % secret} == {"***"}  # noqa: UP031
    assert secret.reveal() == "hunter2"


@pytest.mark.parametrize("value", [None, 5, ["x"], Secret("x"), bytearray(b"x")])
def test_a_secret_holds_text_or_bytes(value):
    with pytest.raises(InvalidArguments):
        Secret(value)


def test_a_secret_cannot_be_pickled_copied_or_written_as_json():
    secret = Secret("hunter2")

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        copy.copy(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_secret_cannot_be_subclassed():
    with pytest.raises(TypeError):
        type("Mine", (Secret,), {})


def test_secrets_compare_by_value_with_secrets_only():
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    with pytest.raises(TypeError):
        hash(Secret("a"))


@given(st.one_of(st.text(st.characters()), st.binary()), st.binary())
def test_what_is_sealed_can_be_opened_in_its_place(value, place):
    sealer = Sealer(Keys([NEW]))

    sealed = sealer.seal(Secret(value), place)

    assert type(sealed) is Sealed
    opened = sealer.open(sealed, place)
    assert opened.reveal() == value
    assert type(opened.reveal()) is type(value)


def test_nothing_of_a_secret_is_in_its_sealed_form():
    sealed = Sealer(Keys([NEW])).seal(Secret("hunter2-hunter2"))

    assert b"hunter2" not in sealed.content
    assert repr(sealed) == "Sealed()"
    assert pickle.loads(pickle.dumps(sealed)) == sealed


def test_the_same_secret_is_sealed_differently_each_time():
    sealer = Sealer(Keys([NEW]))

    assert sealer.seal(Secret("x")) != sealer.seal(Secret("x"))


def test_a_sealed_secret_is_worth_nothing_elsewhere():
    sealer = Sealer(Keys([NEW]))
    sealed = sealer.seal(Secret("x"), b"ann's call")

    with pytest.raises(ConfigurationError):
        sealer.open(sealed, b"bob's call")


def test_every_changed_byte_is_noticed():
    sealer = Sealer(Keys([NEW]))
    sealed = sealer.seal(Secret("x"))

    for position in range(len(sealed.content)):
        content = bytearray(sealed.content)
        content[position] ^= 1
        with pytest.raises(ConfigurationError):
            sealer.open(replace(sealed, content=bytes(content)))


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x01abcd", b"\x02" + b"x" * 60])
def test_what_was_never_sealed_is_not_opened(content):
    with pytest.raises(ConfigurationError):
        Sealer(Keys([NEW])).open(Sealed(content))


def test_after_a_rotation_the_old_secret_still_opens_and_the_new_one_seals():
    before = Sealer(Keys([OLD])).seal(Secret("x"))
    rotated = Sealer(Keys([NEW, OLD]))

    assert rotated.open(before).reveal() == "x"
    assert Sealer(Keys([NEW])).open(rotated.seal(Secret("y"))).reveal() == "y"
    with pytest.raises(ConfigurationError, match="list the earlier one"):
        Sealer(Keys([NEW])).open(before)


def test_keys_differ_by_purpose_and_by_secret():
    purposes = [SEALING, CSRF, ETAG]
    keys = [key for purpose in purposes for key in Keys([NEW, OLD]).all(purpose)]

    assert len(set(keys)) == 6
    assert {len(key) for key in keys} == {32}


def test_derived_keys_never_change_between_releases():
    # Tokens and sealed arguments of running sites depend on it.
    assert derive_key(NEW, CSRF) == bytes.fromhex(
        "612533e718741cc6f093213f2fe08835023e747f251783361608a03e265e1415"
    )


def test_what_is_sealed_is_opened_by_later_releases():
    sealed = Sealed(
        bytes.fromhex(
            "0176d24bc99b57537d9d10b7902d67c4c15abf1dff8bfbac2202a071de67b5cbda853faa5658ed8c2ac5ed"
        )
    )
    sealer = Sealer(Keys([b"a secret of 32 bytes, or of more."]))

    assert sealer.open(sealed, b"place").reveal() == "geheim\u20ac"


def test_keys_do_not_show_and_are_derived_once():
    keys = Keys([NEW])

    assert repr(keys) == "<Keys of 1 secrets>"
    assert keys.current(CSRF) is keys.current(CSRF)


def test_no_secret_means_no_keys():
    with pytest.raises(ConfigurationError, match="env:NAME"):
        Keys([])
