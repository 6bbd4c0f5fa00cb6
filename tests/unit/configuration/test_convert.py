# SPDX-License-Identifier: ZPL-2.1
from __future__ import annotations

import os.path
from datetime import timedelta

import pytest

from wsgi_zasync.configuration import convert


async def to_be_awaited():
    """What a WSGI server waits for never."""


class SubclassOfStr(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("read", "given", "expected"),
    [
        (convert.text, " a b ", "a b"),
        (convert.flag, "Yes", True),
        (convert.flag, "off", False),
        (convert.flag, True, True),
        (convert.whole(1, 9), "7", 7),
        (convert.whole(1, 9), 7, 7),
        (convert.whole(1, 9_000), "1_000", 1000),
        (convert.duration(), "90", 90.0),
        (convert.duration(), "1.5", 1.5),
        (convert.duration(), "90 s", 90.0),
        (convert.duration(), "5m", 300.0),
        (convert.duration(), "2h", 7200.0),
        (convert.duration(), "1d", 86400.0),
        (convert.duration(), "1w", 604800.0),
        (convert.duration(), 3, 3.0),
        (convert.duration(), timedelta(minutes=1), 60.0),
        (convert.size(), "1000", 1000),
        (convert.size(), "64 kB", 64_000),
        (convert.size(), "64KiB", 65_536),
        (convert.size(), "2 MB", 2_000_000),
        (convert.size(), 5, 5),
        (convert.choice("a", "b"), "b", "b"),
        (convert.words, "a, b\n c", ("a", "b", "c")),
        (convert.words, ["a", "b"], ("a", "b")),
        (convert.words, "", ()),
        (convert.table, {"a": 1}, {"a": 1}),
        (convert.table_of_words, {"a": "x y"}, {"a": ("x", "y")}),
        (convert.table_of_words, {"a": ["x"]}, {"a": ("x",)}),
        (convert.table_of_tables, {"a": {"x": "1"}}, {"a": {"x": "1"}}),
        (convert.url_prefix, "/_zasync/", "/_zasync"),
        (convert.url_prefix, "/a/b-c.d", "/a/b-c.d"),
        (convert.named_object, "os.path:join", os.path.join),
        (convert.named_object, "os:path.join", os.path.join),
        (convert.named_object, 5, 5),
        (convert.named_callable, len, len),
        (convert.key_or_callable, len, len),
        (convert.key_or_callable, " my.connection ", "my.connection"),
        (convert.key_or_callable, "os.path:join", os.path.join),
        (convert.anything, None, None),
    ],
)
def test_text_and_python_values_are_read(read, given, expected):
    value = read(given)

    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("read", "given", "said"),
    [
        (convert.text, "", "one line"),
        (convert.text, "a\nb", "one line"),
        (convert.text, 5, "one line"),
        (convert.text, SubclassOfStr("a"), "one line"),
        (convert.flag, "maybe", "yes or no"),
        (convert.whole(1, 9), "x", "from 1 to 9"),
        (convert.whole(1, 9), 10, "from 1 to 9"),
        (convert.whole(1, 9), True, "from 1 to 9"),
        (convert.whole(1, 9), "9" * 30, "from 1 to 9"),
        (convert.duration(), "soon", "seconds"),
        (convert.duration(), -1, "seconds"),
        (convert.duration(), float("nan"), "seconds"),
        (convert.duration(), "2y", "seconds"),
        (convert.duration(), "400d", "seconds"),
        (convert.size(), "5 parsecs", "bytes"),
        (convert.size(1), 0, "bytes"),
        (convert.choice("a", "b"), "c", "a or b"),
        (convert.words, 5, "words"),
        (convert.words, [5], "words"),
        (convert.some_words, " ", "at least one"),
        (convert.table, "a=b", "mapping"),
        (convert.table, {"": 1}, "non-empty"),
        (convert.table, {5: 1}, "non-empty"),
        (convert.url_prefix, "zasync", "begins with a slash"),
        (convert.url_prefix, "/", "begins with a slash"),
        (convert.url_prefix, "/a//b", "begins with a slash"),
        (convert.url_prefix, "/a/../b", "without dots"),
        (convert.url_prefix, "/a b", "begins with a slash"),
        (convert.named_object, "os.path", "package.module:name"),
        (convert.named_object, "os:", "package.module:name"),
        (convert.named_object, "no_such_module_here:x", "cannot be imported"),
        (convert.named_object, "os:no_such_name", "has no no_such_name"),
        (convert.named_callable, "os:sep", "cannot be called"),
        (convert.named_callable, to_be_awaited, "to_be_awaited is async.* write def"),
        (convert.key_or_callable, "os:sep", "cannot be called"),
        (convert.key_or_callable, "os:nothing", "os has no nothing"),
    ],
)
def test_what_cannot_be_read_is_answered_with_what_to_write(read, given, said):
    with pytest.raises(ValueError, match=said):
        read(given)


def test_a_file_is_looked_for_from_where_it_was_named(tmp_path):
    (tmp_path / "zodb.conf").write_text("")

    assert convert.existing_file("zodb.conf", tmp_path) == tmp_path / "zodb.conf"
    assert convert.existing_file(tmp_path / "zodb.conf", tmp_path) == tmp_path / "zodb.conf"
    with pytest.raises(ValueError, match="there is no file .*other.conf"):
        convert.existing_file("other.conf", tmp_path)
