# SPDX-License-Identifier: ZPL-2.1
"""``template:``: Chameleon with only our expressions."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc

import pytest

from tests.expressions.world import CANARY, build, evaluate
from wsgi_zasync.errors import (
    ConfigurationError,
    ExpressionError,
    ResourceLimit,
    Unauthorized,
    UndefinedName,
)
from wsgi_zasync.exposure import expose
from wsgi_zasync.expressions import Limits, compile_expression
from wsgi_zasync.expressions.rendering import register_template
from wsgi_zasync.expressions.repeats import Repeats


def render(source, names=None, mode="html", **options):
    register_template("tested", source, mode)
    return evaluate("template:tested", names, **options)


RENDERED = [
    ("<p>${user/name}</p>", "<p>Ann</p>"),
    ("<p>$name ${user/id} and ${result/count}</p>", "<p>$name ann and 3</p>"),
    ('<p tal:content="book/title">x</p>', "<p>Emma</p>"),
    ('<p tal:replace="string:${user/name}!"/>', "Ann!"),
    ('<i tal:repeat="row result/rows" tal:omit-tag="">${row/name} </i>', "Ann Bob Cyd"),
    ('<i tal:repeat="b root/novels/values">${repeat/b/number}/${repeat/b/length} ${b/title} </i>',
     "<i>1/2 Emma </i> <i>2/2 Moby-Dick </i>"),
    ('<i tal:repeat="(k, v) root/novels/items">${k} ${v/pages}</i>', "<i>emma 474</i> <i>moby 635</i>"),
    ('<i tal:repeat="k root/novels">${k}</i>', "<i>emma</i> <i>moby</i>"),
    ('<i tal:repeat="x nothing">${x}</i>', ""),
    ('<i tal:repeat="x result/rows"><b tal:condition="repeat/x/end">${x/id}</b></i>',
     "<i></i> <i></i> <i><b>3</b></i>"),
    ('<i tal:repeat="x python: range(3)">${repeat/x/letter}${repeat/x/Letter}${repeat/x/roman}${repeat/x/Roman}</i>',
     "<i>aAiI</i> <i>bBiiII</i> <i>cCiiiIII</i>"),
    ('<i tal:repeat="x python: range(3)" tal:omit-tag=""><b tal:condition="repeat/x/odd">${python: repeat["x"]["index"]}</b></i>', "<b>1</b>"),
    ('<p tal:define="b book; t b/title">${t} ${b/pages}</p>', "<p>Emma 474</p>"),
    ('<p tal:define="tags options/tags">${python: tags[1]} ${tags}</p>', "<p>y [&#39;x&#39;, &#39;y&#39;]</p>"),
    ('<p tal:condition="exists:result/nope">a</p><p tal:condition="not:result/nope | nothing">b</p>', "<p>b</p>"),
    ('<p tal:condition="root">has books</p>', "<p>has books</p>"),
    ('<p tal:attributes="title book/title; class default; id nothing" class="c" id="i">x</p>',
     '<p class="c" title="Emma">x</p>'),
    ('<p tal:attributes="title markup">x</p>', '<p title="&lt;b&gt;&quot;">x</p>'),
    ("<p>${markup}</p>", '<p>&lt;b&gt;"</p>'),
    ('<p tal:content="result/nope | default">dflt</p>', "<p>dflt</p>"),
    ('<p tal:switch="result/status"><b tal:case="string:ok">fine</b><b tal:case="default">no</b></p>', "<p><b>fine</b></p>"),
    ('<p tal:switch="day"><b tal:case="moment">a</b><b tal:case="string:x">b</b><b tal:case="day">c</b></p>', "<p><b>c</b></p>"),
    ('<p tal:switch="price"><b tal:case="nothing">a</b><b tal:case="python: 12.5">b</b></p>', "<p><b>b</b></p>"),
    ('<p tal:switch="python: 12.5"><b tal:case="python: [1]">a</b><b tal:case="price">b</b></p>', "<p><b>b</b></p>"),
    ('<p tal:switch="pair"><b tal:case="python: [1, 2]">a</b><b tal:case="python: (1, 2)">b</b></p>', "<p><b>b</b></p>"),
    ('<p tal:switch="book"><b tal:case="root">a</b><b tal:case="book">b</b></p>', "<p><b>b</b></p>"),
    ("<p>${moment} ${price} ${python: 1.5} ${python: True} ${nothing}</p>",
     "<p>2026-11-24 09:30:05.000007+00:00 12.50 1.5 True </p>"),
    ("<p>${python: {'a': 1}['a']} $${x}</p>", "<p>1 ${x}</p>"),
    ("<p>${python: path('user/name')}</p>", "<p>Ann</p>"),
    ("<p>${book/rename | string:x}</p>", TypeError),
    ("<p>${user/greet}</p>", "<p>Hello, Ann!</p>"),
    ("<p>&amp; <!-- ${user/card} --></p>", "<p>&amp; <!-- ${user/card} --></p>"),
    ("<p>${template:nowhere}</p>", UndefinedName),
    ("<input checked=${user/name} class=a disabled=x tal:attributes='disabled nothing'/><p title=x i18n:attributes='title'/>",
     "<input checked=checked class=a/><p title=x/>"),
    ('<p tal:define="f nocall:book/lend">${f}</p>', "<p>lent</p>"),
    ('<p i18n:translate="">Hello <b i18n:name="who">${user/name}</b></p>', "<p>Hello <b>Ann</b></p>"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "letter", "roman"),
    [
        (1, "a", "i"),
        (4, "d", "iv"),
        (26, "z", "xxvi"),
        (27, "ba", "xxvii"),
        (49, "bw", "xlix"),
        (1994, "cyr", "mcmxciv"),
        (4888, "hfz", "mmmmdccclxxxviii"),
    ],
)
def test_places_are_also_counted_by_letters_and_roman_numerals(number, letter, roman):
    repeats = Repeats()
    items, length = repeats("x", range(number))
    assert len(list(items)) == length == number
    place = repeats.positions()["x"]
    assert (place["letter"], place["roman"], place["number"]) == (letter, roman, number)


@pytest.mark.parametrize(("source", "expected"), RENDERED)
def test_a_template_is_rendered_with_the_names_of_the_expression(source, expected):
    names = build() | {"name": "x", "markup": '<b>"'}
    if isinstance(expected, type):
        with pytest.raises(ExpressionError):
            render(source, names)
        return
    normal = " ".join(render(source, names).split()).replace("> <", "><")
    wanted = " ".join(expected.split()).replace("> <", "><").replace("&#39;", "'")
    assert normal == wanted


def test_eight_templates_are_rendered_inside_one_another_and_no_more():
    register_template("nested-9", "in")
    for number in range(1, 9):
        register_template(f"nested-{number}", f"${{template:nested-{number + 1}}}")

    assert evaluate("template:nested-2") == "in"
    with pytest.raises(ResourceLimit, match="inside one another"):
        evaluate("template:nested-1")


def test_a_text_template_has_no_tags_and_no_escaping():
    text = "Dear ${user/name},\n<${result/count}> & $$1\n"
    assert render(text, mode="text") == "Dear Ann,\n<3> & $1\n"


REFUSED_AT_START = [
    "<?python import os ?><p/>", '<p tal:content="structure user/name"/>', '<p tal:replace="structure user/name"/>',
    "<p>${structure: user/name}</p>", "<p>${load: other.pt}</p>", "<p>${import: os}</p>",
    '<p metal:use-macro="load: other.pt"/>', '<p metal:extend-macro="user/name"/>',
    '<p tal:on-error="string:x">${user/card}</p>', "<p>${user/_password}</p>", "<p>${python: user.__class__}</p>",
    '<p tal:define="x y:z"/>', "<p>${python: lambda: 1}</p>", "<p tal:foo='x'/>", "<p></b></p>",
    '<x:p xmlns:x="http://xml.zope.org/namespaces/tal" x:content="structure user/name"/>',
    '<p tal:define="__zasync_run user"/>', '<p tal:define="econtext user"/>', "<p>${user/name</p>" "${",
    '<p tal:repeat="x"/>', "<p>${user/name} and ${</p>", "<p><![CDATA[${user/name}]]></p>",
    "<script><![CDATA[ ${user/name} ]]></script>",
    "<p title=${user/name}>x</p>", '<p title=x tal:attributes="title user/name"/>', '<p title tal:attributes="title user/name"/>',
    '<option selected tal:attributes="selected user/name"/>', '<p title=${user/name} i18n:attributes="title"/>',
    "<${user/name}>x</${user/name}>", '<p xmlns:tal="x">{{<?xml</p>', '<p a="${user/name}" tal:switch="user" tal:case="user"/>',
]  # fmt: skip


@pytest.mark.parametrize("source", REFUSED_AT_START)
def test_what_is_not_offered_is_an_error_of_the_configuration(source):
    if source.endswith(("${", "${</p>")):
        # Chameleon takes an unclosed brace for text.
        assert "${" in render(source)
        return
    with pytest.raises(ConfigurationError, match="template tested: "):
        register_template("tested", source)


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "a b", "a..b", "\u00e4", "a\n"])
def test_names_of_templates_are_plain(name):
    with pytest.raises(ConfigurationError):
        register_template(name, "<p/>")
    with pytest.raises(ExpressionError):
        compile_expression(f"template:{name or ' '}|")


def test_there_are_two_modes():
    with pytest.raises(ConfigurationError, match="mode"):
        register_template("tested", "x", "xml")


def test_an_unknown_template_is_undefined_and_similar_ones_are_named():
    register_template("welcome.mail", "x", "text")
    with pytest.raises(
        UndefinedName, match="template:welcom.mail: no such template; did you mean 'welcome.mail'"
    ):
        evaluate("template:welcom.mail")
    assert evaluate("template: welcome.mail ") == "x"


CLOSED = [
    "<p>${user}</p>", "<p>${user/card}</p>", "<p>${book/notes}</p>", '<p tal:define="b book">${b}</p>',
    '<p tal:define="b book">${b/notes}</p>', '<p tal:repeat="x user">${x}</p>', '<p tal:repeat="x book">x</p>',
    '<p tal:content="book/burn"/>', '<p tal:attributes="title user">x</p>', '<p tal:attributes="data">x</p>',
    "<p>${template/render}</p>", "<p>${macros}</p>", "<p>${econtext}</p>", "<p>${repeat/x/foo}</p>",
    "<p>${python: [user]}</p>", '<p tal:define="f nocall:book/burn">${f}</p>', "<p>${translate}</p>",
    "<p>${target_language}</p>", "<p>${rcontext}</p>", "<p>${attrs/x}</p>", '<p tal:define="n len">${n}</p>',
]  # fmt: skip


@pytest.mark.parametrize("source", CLOSED)
def test_the_guard_holds_inside_templates(source):
    names = build() | {"data": {"title": "x"}}
    with pytest.raises((Unauthorized, ExpressionError)) as refused:
        render(source, names)
    assert CANARY not in str(refused.value)
    assert str(refused.value).startswith("template:tested, line 1: ")
    assert not names["book"].burnt


def test_no_object_answers_for_itself():
    @expose("x")
    class Markup:
        def __html__(self):
            return "<script>alert(1)</script>"

        __str__ = __html__

    for source in (
        "<p>${m}</p>",
        '<p tal:content="m"/>',
        '<p tal:attributes="title m"/>',
        '<p tal:define="n m">${n}</p>',
    ):
        with pytest.raises(Unauthorized):
            render(source, {"m": Markup()})
    with pytest.raises(Unauthorized):
        render("<p>${m}</p>", {"m": type("Text", (str,), {"__html__": lambda self: "<b>"})("x")})


def test_errors_say_where_and_show_no_value():
    with pytest.raises(Unauthorized) as refused:
        render("<p>\n  <b>${user/nam}</b></p>", {"user": build()["user"], "secret": CANARY})
    assert (
        str(refused.value)
        == "template:tested, line 2: user/nam: no such name is open; did you mean 'name'?"
    )
    assert (refused.value.line, refused.value.column) == (2, 8)


def test_what_is_written_is_bounded():
    numbers = '<i tal:repeat="x python: range(1000)"><b tal:repeat="y python: range(1000)">0123456789</b></i>'
    with pytest.raises(ResourceLimit):
        render(numbers, {})
    with pytest.raises(ResourceLimit, match="100 characters"):
        render("<p>" + "x" * 200 + "</p>", {}, limits=Limits(text=100))


@pytest.mark.parametrize(
    "source",
    [
        '<p title="' + "${text}" * 20 + '"/>',
        '<p i18n:translate="">' + "${text}" * 20 + "</p>",
        '<p i18n:translate=""><b i18n:name="n" tal:repeat="x python: range(100)">${text}</b></p>',
        '<p i18n:translate="">${naming}<b i18n:name="n">${part}</b></p>',
    ],
)
def test_what_is_put_together_before_it_is_written_is_bounded_as_well(source):
    names = {"text": "&" * 100_000, "naming": "${n}" * 1_000, "part": "x" * 10_000}
    register_template("tested", source)
    tracemalloc.start()
    try:
        with pytest.raises(ResourceLimit):
            evaluate("template:tested", names, limits=Limits(size=1_000_000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000


def test_templates_can_use_templates_but_not_for_ever():
    register_template("inner", "<b>${user/name} ${x | string:-}</b>")
    assert render('<p tal:define="x string:outer" tal:content="template:inner"/>') == (
        "<p>&lt;b&gt;Ann -&lt;/b&gt;</p>"
    )
    register_template("endless", "<p>${template:endless}</p>")
    with pytest.raises(ResourceLimit):
        evaluate("template:endless")


def test_no_code_is_written_to_a_disk(tmp_path):
    program = (
        "from wsgi_zasync.expressions.rendering import register_template\n"
        "register_template('a', '<p>${x}</p>')\n"
    )
    environment = os.environ | {"CHAMELEON_CACHE": str(tmp_path), "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)

    assert list(tmp_path.iterdir()) == []


def test_expressions_do_not_load_chameleon():
    program = "import sys, wsgi_zasync.expressions as e; e.compile_expression('template:x'); print('chameleon' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, check=True, capture_output=True
    )

    assert done.stdout.strip() == b"False"
