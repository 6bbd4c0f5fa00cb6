# SPDX-License-Identifier: ZPL-2.1
"""T23: what users and servers write forges no line of a log and no structure of an answer."""

from __future__ import annotations

import json
import logging

import pytest

from wsgi_zasync import InvalidArguments

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "javascript:alert(1)",
    "\x1b[2J\x1b[31mred",
    "\x1b]0;title\x07",
    "two\nlines",
    "two\r\nlines\r\n\r\nHTTP/1.1 200 OK",
    "data: x\r\revent: y",
    "\x00nul",
    "‮txt.exe",
    "⁦isolate⁩",
    "\u2028line\u2029paragraph",
    "\x85next",
    "{{7*7}} ${user/id} %(x)s {0.__class__}",
    "%s%s%s%n",
    "\ufeffbom",
    "\U0001f4a9" * 10,
    "a" * 3000,
    "2026-01-01T00:00:00Z INFO call x succeeded",
    "]]></script>&amp;",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_text_stays_data_in_json_and_makes_no_line_in_a_log(site, caplog, text):
    caplog.set_level(logging.DEBUG)
    site.plugins["progress"] = lambda attempt: attempt.progress(0.5, text)
    with site.calls() as calls:
        try:
            titled = calls.options(title=text).put("echo", text)
        except InvalidArguments:  # too long, or with controls in it: refused is as good
            titled = calls.put("echo", text)
        ids = [titled.on_any("string:${call/title|nothing}").id]
        ids.append(calls.put("fail", text).on_failure("failure/message").id)
        ids.append(calls.put("progress").id)

    site.run()

    with site.calls() as calls:
        for call_id in ids:
            shown = json.dumps(calls.get(call_id).to_dict())
            assert shown.isascii()
            assert not any(ord(c) < 32 for c in shown)
        assert calls.get(ids[0]).result == text
        message = calls.get(ids[1]).failure.message
        assert message.isprintable()
        assert len(message) <= 2000
    for record in caplog.records:
        line = record.getMessage()
        if record.name.startswith("wsgi_zasync"):
            assert line.isprintable(), line
            assert text not in line


@pytest.mark.parametrize("name", ["ann\x1b[31m", "ann\nbob", "ann\u2028"])
def test_an_id_with_controls_is_nobodys(name):
    from wsgi_zasync import Principal

    with pytest.raises(InvalidArguments):
        Principal(name)
