# SPDX-License-Identifier: ZPL-2.1
"""Plugins: declared lightly, found by name, configured, and checked against at put."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from wsgi_zasync import plugins
from wsgi_zasync.errors import ConfigurationError, InvalidArguments, UnknownPlugin
from wsgi_zasync.plugins import (
    PluginDeclaration,
    Registry,
    check_arguments,
    parameters_of,
    plugin,
    unknown,
)
from wsgi_zasync.retry import RetryPolicy


@plugin("invoice.render", timeout=60, permission="render", max_running=2)
def render(attempt: Any, number: int, *, language: str = "en") -> str:
    return f"{number} {language}"


def undeclared(attempt: Any, text: str) -> str:
    return text


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], str]]:
    """Writes a module that can be imported, and gives its name; it is unknown afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    names: list[str] = []

    def write(source: str) -> str:
        names.append(f"zasync_test_plugins_{len(names)}")
        (tmp_path / f"{names[-1]}.py").write_text(source)
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretends that distributions have registered plugins."""

    def install(**values: str) -> None:
        found = [EntryPoint(name, value, plugins.ENTRY_POINTS) for name, value in values.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: found)

    return install


class TestDeclaring:
    def test_the_decorator_returns_the_callable_itself_with_its_declaration(self) -> None:
        assert render(None, 7) == "7 en"  # it is still the function
        declaration = render.declaration  # type: ignore[attr-defined]
        assert declaration.target is render
        assert declaration.load() is render
        assert (declaration.name, declaration.runs) == ("invoice.render", "thread")
        assert (declaration.timeout, declaration.max_running) == (60.0, 2)
        assert declaration.permission == "render"

    def test_a_plugin_is_closed_to_expressions_and_restricted_code_unless_it_says_otherwise(
        self,
    ) -> None:
        closed = render.declaration  # type: ignore[attr-defined]
        opened = plugin("x", expressions=True, restricted=True)(lambda attempt: None)
        assert (closed.expressions, closed.restricted) == (False, False)
        assert (opened.declaration.expressions, opened.declaration.restricted) == (True, True)

    @pytest.mark.parametrize("runs", ["reactor", "thread", "transaction", "process"])
    def test_a_plugin_runs_in_one_of_four_places(self, runs: Any) -> None:
        assert plugin("x", runs=runs)(lambda attempt: None).declaration.runs == runs

    def test_a_time_is_seconds_or_a_timedelta(self) -> None:
        minutes: Any = timedelta(minutes=2)
        declared: Any = plugin("x", timeout=minutes)(lambda attempt: None)
        assert declared.declaration.timeout == 120.0

    def test_a_retry_policy_is_kept(self) -> None:
        policy = RetryPolicy(attempts=3)
        assert plugin("x", retry=policy)(lambda attempt: None).declaration.retry is policy

    @pytest.mark.parametrize(
        ("wrong", "said"),
        [
            ({"name": ""}, "name"),
            ({"name": " x"}, "blanks"),
            ({"name": "x\n"}, "blanks"),
            ({"name": "x", "runs": "greenlet"}, "greenlet"),
            ({"name": "x", "timeout": 0}, "timeout"),
            ({"name": "x", "timeout": -1}, "timeout"),
            ({"name": "x", "timeout": float("nan")}, "timeout"),
            ({"name": "x", "max_running": 0}, "max_running"),
            ({"name": 7}, "name"),
            ({"name": undeclared}, r'write @plugin\("NAME"\)'),
            ({"name": "x", "timeout": "soon"}, "timeout"),
            ({"name": "x", "max_running": "many"}, "max_running"),
            ({"name": "x", "max_running": True}, "max_running"),
            ({"name": "x", "permission": 7}, "permission"),
            ({"name": "x", "retry": 3}, "RetryPolicy"),
            ({"name": "x", "expressions": "maybe"}, "expressions"),
        ],
    )
    def test_a_declaration_that_makes_no_sense_is_refused_where_it_is_written(
        self, wrong: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=said):
            plugin(**wrong)

    def test_a_declaration_is_a_value(self) -> None:
        with pytest.raises(FrozenInstanceError):
            render.declaration.name = "other"  # type: ignore[attr-defined]

    def test_coroutine_functions_and_callable_objects_can_be_declared(self) -> None:
        class Renderer:
            def __call__(self, attempt: Any, number: int) -> int:
                return number

        async def render_later(attempt: Any, number: int) -> int:
            return number

        for each in (Renderer(), render_later):
            declared: Any = plugin("x", runs="reactor")(each)
            assert declared is each
            assert declared.declaration.parameters == (("number", 1, False),)


class TestParameters:
    @pytest.mark.parametrize(
        ("function", "names"),
        [
            (render, ["number", "language"]),
            (lambda attempt: None, []),
            (lambda *args, **kwargs: None, ["args", "kwargs"]),
            (lambda attempt, *args: None, ["args"]),
            (functools.partial(render, language="de"), ["number", "language"]),
        ],
    )
    def test_the_first_one_is_the_attempt_and_is_no_callers_business(
        self, function: Callable[..., Any], names: list[str]
    ) -> None:
        parameters = parameters_of(function)
        assert parameters is not None
        assert [name for name, _, _ in parameters] == names

    def test_what_has_no_signature_has_unknown_parameters(self) -> None:
        assert parameters_of(type) is None

    @pytest.mark.parametrize(
        ("args", "kwargs"), [((1,), {}), ((1,), {"language": "de"}), ((), {"number": 1})]
    )
    def test_arguments_that_fit_are_accepted(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        check_arguments("invoice.render", parameters_of(render) or (), args, kwargs)

    @pytest.mark.parametrize(
        ("args", "kwargs", "said"),
        [
            ((), {}, "missing a required argument: 'number'"),
            ((1, 2), {}, "too many positional arguments"),
            ((1,), {"colour": "red"}, "unexpected keyword argument 'colour'"),
            ((1,), {"number": 2}, "multiple values for argument 'number'"),
            ((1,), {"attempt": 2}, "unexpected keyword argument 'attempt'"),
        ],
    )
    def test_arguments_that_do_not_fit_are_refused_with_the_signature(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
    ) -> None:
        with pytest.raises(InvalidArguments, match=said) as caught:
            check_arguments("invoice.render", parameters_of(render) or (), args, kwargs)
        assert "'invoice.render' takes (number, *, language=…)" in str(caught.value)
        assert caught.value.path == "args"

    @pytest.mark.parametrize(
        "forged",
        [
            [("a", 9, False)],
            [("not a name", 1, False)],
            [("a", 1, True), ("b", 1, False)],
            [("a", 1, False), ("a", 1, False)],
            [("a", "x", False)],
            [(1, 1, False)],
        ],
    )
    def test_forged_parameters_from_the_store_refuse_nothing_and_break_nothing(
        self, forged: Any
    ) -> None:
        check_arguments("x", forged, (1, 2, 3), {"y": 4})


class TestRegistry:
    def test_plugins_given_by_name_are_found(self) -> None:
        # Given a declared callable, an undeclared one and a declaration
        light = PluginDeclaration(name="light", target="somewhere:else")
        registry = Registry({"a": render, "b": undeclared, "c": light}, installed=False)
        # Then
        assert registry.names() == ["a", "b", "c"]
        assert "a" in registry
        assert "d" not in registry
        assert registry.declaration("b") == PluginDeclaration(
            name="b", target=undeclared, parameters=(("text", 1, False),)
        )

    def test_naming_a_declared_plugin_again_elsewhere_is_no_error_and_keeps_its_declaration(
        self,
    ) -> None:
        registry = Registry({"invoice.render": render, "other": render}, installed=False)
        for name in ("invoice.render", "other"):
            declaration = registry.declaration(name)
            assert (declaration.name, declaration.timeout) == (name, 60.0)
            assert declaration.load() is render

    def test_a_dotted_string_is_imported_when_it_is_first_asked_for(
        self, module: Callable[[str], str]
    ) -> None:
        # Given
        name = module(
            "from wsgi_zasync.plugins import plugin\n"
            "class Space:\n"
            "    @staticmethod\n"
            "    @plugin('x', runs='reactor')\n"
            "    def run(attempt, url): return url\n"
        )
        registry = Registry({"x": f"{name}:Space.run"}, installed=False)
        assert name not in sys.modules
        # When
        declaration = registry.declaration("x")
        # Then
        assert name in sys.modules
        assert declaration.runs == "reactor"
        assert declaration.load()(None, "u") == "u"
        assert registry.declaration("x") is declaration

    def test_a_light_declaration_is_imported_only_when_it_is_loaded(
        self, module: Callable[[str], str]
    ) -> None:
        # Given a module that a web process has no need of
        name = module("def run(attempt): return 'ran'\n")
        light = PluginDeclaration(name="heavy", target=f"{name}:run", parameters=())
        registry = Registry({"heavy": light}, installed=False)
        # When a put is checked against it
        check_arguments("heavy", registry.declaration("heavy").parameters or (), (), {})
        # Then it was not imported, until it runs
        assert name not in sys.modules
        assert registry.declaration("heavy").load()(None) == "ran"

    @pytest.mark.parametrize(
        "target", ["no_such_module:x", "os:no_such_name", "os:path.no.such", "sys:maxsize"]
    )
    def test_what_leads_nowhere_is_a_configuration_error_that_names_it(self, target: str) -> None:
        # Given as a plugin and as the target of a light declaration
        light = PluginDeclaration(name="y", target=target)
        registry = Registry({"x": target, "y": light}, installed=False)
        # When, then
        with pytest.raises(ConfigurationError, match="plugin 'x'"):
            registry.declaration("x")
        with pytest.raises(ConfigurationError, match="plugin 'y'"):
            registry.declaration("y").load()

    def test_what_cannot_be_called_is_no_plugin(self) -> None:
        with pytest.raises(ConfigurationError, match="cannot be called"):
            Registry({"x": 17}, installed=False).declaration("x")  # type: ignore[dict-item]

    def test_installed_plugins_are_found_and_given_ones_win(
        self, installed: Callable[..., None], module: Callable[[str], str]
    ) -> None:
        # Given
        name = module("def run(attempt, installed): pass\n")
        installed(one=f"{name}:run", two=f"{name}:run")
        # When
        registry = Registry({"two": undeclared})
        # Then
        assert registry.names() == ["one", "two"]
        assert registry.declaration("one").parameters == (("installed", 1, False),)
        assert registry.declaration("two").target is undeclared
        assert Registry(installed=False).names() == []

    def test_an_unknown_plugin_is_told_with_the_nearest_known_names(self) -> None:
        registry = Registry({"invoice.render": render, "mail.send": undeclared}, installed=False)
        with pytest.raises(UnknownPlugin, match=r"did you mean 'invoice\.render'\?") as caught:
            registry.declaration("invoice.rendr")
        assert caught.value.name == "invoice.rendr"
        assert caught.value.nearest == ("invoice.render",)
        assert unknown("zzz", ["a"]).nearest == ()

    def test_an_unknown_plugin_is_not_imported_from_its_name(self) -> None:
        with pytest.raises(UnknownPlugin):
            Registry(installed=False).declaration("os:system")

    def test_what_is_published_is_names_and_parameters_as_plain_data(self) -> None:
        registry = Registry({"b": undeclared, "a": render, "c": type}, installed=False)
        assert registry.publication() == {
            "a": (("number", 1, False), ("language", 3, True)),
            "b": (("text", 1, False),),
            "c": None,
        }


class TestOptions:
    def test_the_configuration_has_the_last_word(self) -> None:
        # Given
        options = {
            "timeout": "2.5", "permission": "edit", "max_running": "7", "expressions": "yes",
            "restricted": "On", "runs": "transaction", "allow": "127.0.0.1:8080",
        }  # fmt: skip
        # When
        registry = Registry({"r": render}, {"r": options}, installed=False)
        declaration = registry.declaration("r")
        # Then
        assert (declaration.timeout, declaration.permission) == (2.5, "edit")
        assert (declaration.max_running, declaration.expressions) == (7, True)
        assert (declaration.restricted, declaration.runs) == (True, "transaction")
        closed = Registry({"r": render}, {"r": {"expressions": "No"}}, installed=False)
        assert not closed.declaration("r").expressions
        # and what is not the declaration's is for the plugin
        assert declaration.settings == {"allow": "127.0.0.1:8080"}
        # and neither the options nor the function's own declaration have changed
        assert options["timeout"] == "2.5"
        assert render.declaration.timeout == 60.0  # type: ignore[attr-defined]

    def test_options_are_read_as_settings_are_from_text_and_from_python(self) -> None:
        # Given
        options = {"timeout": "5m", "expressions": True, "max_running": 3}
        # When
        declaration = Registry({"r": render}, {"r": options}, installed=False).declaration("r")  # type: ignore[dict-item]
        # Then
        assert (declaration.timeout, declaration.expressions) == (300.0, True)
        assert declaration.max_running == 3

    @pytest.mark.parametrize("declared", [None, RetryPolicy(attempts=2, on=("OSError",))])
    def test_retry_says_how_often_and_leaves_the_rest_as_declared(
        self, declared: RetryPolicy | None
    ) -> None:
        # Given
        known = {"t.tried": plugin("t.tried", retry=declared)(lambda attempt: None)}
        options = {"t.tried": {"retry": "5"}}
        # When
        policy = Registry(known, options, installed=False).declaration("t.tried").retry
        # Then
        assert policy == replace(declared or RetryPolicy(), attempts=5)

    def test_without_options_there_are_no_settings(self) -> None:
        assert Registry({"r": render}, installed=False).declaration("r").settings == {}

    @pytest.mark.parametrize(
        ("key", "text"),
        [
            ("timeout", "soon"),
            ("timeout", "0"),
            ("timeout", "nan"),
            ("timeout", "inf"),
            ("retry", "0"),
            ("retry", "yes"),
            ("max_running", "0"),
            ("max_running", "-1"),
            ("max_running", "many"),
            ("expressions", "maybe"),
            ("expressions", ""),
            ("restricted", "2"),
        ],
    )
    def test_an_option_that_cannot_be_read_is_named(self, key: str, text: str) -> None:
        registry = Registry({"r": render}, {"r": {key: text}}, installed=False)
        with pytest.raises(ConfigurationError, match=rf"\[plugin:r\] {key}"):
            registry.declaration("r")

    @pytest.mark.parametrize(
        ("key", "meant"), [("timeuot", "timeout"), ("permissions", "permission")]
    )
    def test_an_option_that_is_all_but_known_is_a_spelling_mistake(
        self, key: str, meant: str
    ) -> None:
        registry = Registry({"r": render}, {"r": {key: "1"}}, installed=False)
        with pytest.raises(ConfigurationError, match=rf"\[plugin:r\] {key}.*did you mean {meant}"):
            registry.declaration("r")

    def test_options_of_a_plugin_that_is_not_there_are_an_error_at_the_start(self) -> None:
        with pytest.raises(ConfigurationError, match=r"\[plugin:rendr\].*did you mean 'render'"):
            Registry({"render": render}, {"rendr": {"timeout": "1"}}, installed=False)


def test_declaring_naming_and_checking_the_bundled_plugins_loads_no_twisted() -> None:
    # Given a fresh process, as a web process is
    program = (
        "import sys\n"
        "from wsgi_zasync.plugins import Registry, check_arguments\n"
        "from wsgi_zasync import bundled\n"
        "registry = Registry({'http.get': bundled.http_get}, installed=False)\n"
        "declaration = registry.declaration('http.get')\n"
        "check_arguments('http.get', declaration.parameters, ('http://x/',), {'timeout': 3})\n"
        "assert registry.publication()\n"
        "print(sorted({'twisted', 'treq', 'ZEO', 'chameleon'} & set(sys.modules)))\n"
    )
    # When
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    # Then
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
