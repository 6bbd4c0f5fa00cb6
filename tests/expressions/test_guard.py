# SPDX-License-Identifier: ZPL-2.1
"""What is exposed, to whom, when; what goes in and what comes out."""

from __future__ import annotations

import asyncio
import datetime
import functools
import gc
import itertools
import math
import threading
import types
import uuid
import weakref

import pytest
from BTrees.OOBTree import OOBTree
from transaction.interfaces import TransientError
from ZODB.POSException import POSKeyError
from zope.interface.interface import InterfaceClass

from tests.expressions.world import ANN, BEN, Policy, Reader, build, evaluate
from wsgi_zasync.errors import (
    ConfigurationError,
    ExpressionError,
    InvalidArguments,
    QuotaExceeded,
    ResourceLimit,
    Unauthorized,
    UndefinedName,
)
from wsgi_zasync.exposure import class_rules, expose, exposed, exposed_functions
from wsgi_zasync.expressions import CannotDecide, Limits, compile_expression
from wsgi_zasync.expressions.operations import Operations
from wsgi_zasync.security import Principal


@expose("shown", "method", "attribute", kept="View")
class Base:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)

    shown = "shown"
    kept = "kept"

    def method(self, *args, **kwargs):
        return self.__dict__.get("answer", (args, kwargs))


class Same(Base):
    pass


class Redefined(Base):
    @property
    def shown(self):
        return "a secret"


@expose("shown")
class Declared(Redefined):
    pass


class Stricter(Base):
    pass


expose(kept="Manage")(Stricter)


class TestDeclarations:
    def test_hold_for_subclasses_that_do_not_redefine_the_name(self):
        assert evaluate("thing/shown", thing=Same()) == "shown"
        with pytest.raises(Unauthorized):
            evaluate("thing/shown", thing=Redefined())
        # Redefined by a parent, and not by the class that declared it.
        with pytest.raises(Unauthorized):
            evaluate("thing/shown", thing=type("Deep", (Redefined,), {})())

    def test_of_a_subclass_come_before_those_of_its_parents(self):
        assert evaluate("thing/kept", thing=Base()) == "kept"
        with pytest.raises(Unauthorized):
            evaluate("thing/kept", thing=Stricter())

    def test_of_a_subclass_for_a_name_that_a_parent_redefined_hold(self):
        assert evaluate("thing/shown", thing=Declared()) == "a secret"

    def test_add_up(self):
        class Thing:
            one, two = 1, 2

        expose("one")(Thing)
        with pytest.raises(Unauthorized):
            evaluate("thing/two", thing=Thing())
        expose("two")(Thing)
        assert evaluate("python: thing.one + thing.two", thing=Thing()) == 3

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda: expose("_private")(Reader), lambda: expose("__class__")(Reader),
            lambda: expose("a b")(Reader), lambda: expose(7)(Reader), lambda: expose()(Reader),
            lambda: expose(name="")(Reader), lambda: expose(name=7)(Reader),
            lambda: expose("x")(lambda: 1), lambda: expose(x="y")(lambda: 1), lambda: expose()(7),
            lambda: expose(call=7)(lambda: 1), lambda: expose(timeout=0)(lambda: 1),
            lambda: expose(timeout="5")(lambda: 1), lambda: exposed(len, call=""),
            lambda: expose("mro")(type), lambda: expose("x")(types.FunctionType),
            # Without the parentheses, the class would be replaced by something that is none.
            lambda: expose(Reader), lambda: expose(len), lambda: expose(lambda: 1),
        ],
    )  # fmt: skip
    def test_that_make_no_sense_are_refused(self, wrong):
        with pytest.raises(ConfigurationError):
            wrong()

    def test_of_classes_that_come_and_go_do_not_pile_up(self):
        first = type("Class", (Base,), {})
        class_rules(first)
        first = weakref.ref(first)
        for number in range(5_000):
            class_rules(type(f"Class{number}", (Base,), {}))
        gc.collect()
        assert first() is None
        assert evaluate("thing/shown", thing=Same()) == "shown"

    def test_of_functions_that_are_written_in_c_are_of_the_functions_themselves(self):
        assert expose()(math.nextafter) is math.nextafter
        assert evaluate("python: step(0, 1) > 0", step=math.nextafter) is True

    def test_of_functions_can_be_listed(self):
        listed = dict(exposed_functions())
        assert listed["tests.expressions.world.ring"].permission is None


class TestOperationNames:
    def test_are_granted_each_for_itself(self):
        @expose("__len__")
        class OnlyLength:
            def __len__(self):
                return 3

            def __iter__(self):
                return iter("abc")

            def __getitem__(self, key):
                return key

            def __contains__(self, item):
                return True

        thing = OnlyLength()
        assert evaluate("python: len(thing)", thing=thing) == 3
        for source in ("list(thing)", "thing['a']", "'a' in thing", "[x for x in thing]"):
            with pytest.raises(Unauthorized):
                evaluate(f"python: {source}", thing=thing)
        with pytest.raises(Unauthorized):
            evaluate("thing/a", thing=thing)

    def test_decide_about_truth_only_where_they_are_open(self):
        @expose("__len__")
        class Empty:
            def __len__(self):
                return 0

        class Hidden(Empty):
            def __bool__(self):
                raise AssertionError("asked")

            def __len__(self):
                raise AssertionError("asked")

        expose("x")(Hidden)
        assert evaluate("python: 'full' if thing else 'empty'", thing=Empty()) == "empty"
        assert evaluate("python: 'full' if thing else 'empty'", thing=Hidden()) == "full"

    def test_that_fail_do_so_without_a_raw_exception(self):
        @expose("__getitem__", "__len__", "__iter__", "__contains__")
        class Broken:
            def __getitem__(self, key):
                raise {"key": KeyError, "index": IndexError, "pos": POSKeyError}.get(
                    key, ValueError
                )(b"secret")

            def __len__(self):
                raise OSError("secret")

            def __iter__(self):
                raise RuntimeError("secret")

            def __contains__(self, item):
                raise TypeError("secret")

        for source in ("thing['key']", "thing['index']"):
            with pytest.raises(UndefinedName):
                evaluate(f"python: {source}", thing=Broken())
        for source in ("thing['pos']", "thing['x']", "len(thing)", "list(thing)", "1 in thing"):
            with pytest.raises(ExpressionError) as refused:
                evaluate(f"python: {source}", thing=Broken())
            assert "secret" not in str(refused.value)
            assert not isinstance(refused.value, UndefinedName)


class TestPermissions:
    def test_are_asked_for_at_each_use_with_the_object_at_hand(self):
        policy, names = Policy(), build()

        evaluate("python: book.lend() and book.lend()", names, policy=policy)

        assert policy.asked == [("ann", "Lend", names["book"])] * 2

    def test_that_go_away_meanwhile_are_gone(self):
        rights = {"ann": {"View", "Lend"}}
        names = build() | {"demote": exposed(lambda: rights.clear())}

        with pytest.raises(Unauthorized, match=r"^book.lend\(\): needs the permission 'Lend'$"):
            evaluate("python: [demote(), book.lend()]", names, policy=Policy(rights))
        assert not names["book"].lent

    def test_are_asked_for_again_when_a_method_that_was_read_is_called(self):
        rights = {"ann": {"View", "Lend"}}
        names = build() | {"demote": exposed(lambda: rights.clear())}

        with pytest.raises(Unauthorized):
            evaluate(
                "python: [m() for m in [book.lend] if demote() is None]",
                names,
                policy=Policy(rights),
            )
        assert not names["book"].lent

    def test_are_needed_by_the_author_as_well(self):
        names = build()

        assert evaluate("book/title", names, principal=ANN, author=BEN) == "Emma"
        for principal, author in ((ANN, BEN), (BEN, ANN)):
            with pytest.raises(Unauthorized):
                evaluate("book/lend", names, principal=principal, author=author)
        assert not names["book"].lent

    def test_of_bare_functions_are_asked_for_on_the_function(self):
        @expose(call="Lend")
        def lend_all():
            return "all lent"

        policy = Policy()
        assert evaluate("python: lend_all()", lend_all=lend_all, policy=policy) == "all lent"
        assert policy.asked == [("ann", "Lend", lend_all)]
        with pytest.raises(Unauthorized):
            evaluate("lend_all", lend_all=lend_all, principal=BEN)
        with pytest.raises(Unauthorized):
            evaluate("python: f()", f=exposed(lambda: 1, call="Manage"))

    @pytest.mark.parametrize(
        "raised", [ConnectionError("secret"), KeyError("secret"), SystemError()]
    )
    def test_a_policy_that_cannot_decide_neither_allows_nor_refuses(self, raised):
        class Broken(Policy):
            def allows(self, principal, permission, object):
                raise raised

        for source in ("book/title", "exists:book/title", "book/title | string:x", "root/novels"):
            with pytest.raises(CannotDecide) as undecided:
                evaluate(source, policy=Broken())
            assert undecided.value.__cause__ is raised
            assert "secret" not in str(undecided.value)

    def test_a_policy_that_is_to_be_awaited_does_not_say_yes(self):
        class Later(Policy):
            async def allows(self, principal, permission, object):
                return True

        for source in ("book/title", "exists:book/title", "book/title | string:x"):
            with pytest.raises(CannotDecide):
                evaluate(source, policy=Later())

    def test_without_a_policy_nobody_has_any(self):
        expression = compile_expression("book/title")

        for nobody_decides in ({"principal": ANN, "policy": None}, {"principal": ANN}, {}):
            with pytest.raises(Unauthorized, match="needs the permission 'View'"):
                expression.evaluate(build(), **nobody_decides)
        assert (
            compile_expression("user/name").evaluate(build(), principal=ANN, policy=None) == "Ann"
        )

    def test_a_policy_may_refuse_by_raising(self):
        class Raising(Policy):
            def allows(self, principal, permission, object):
                raise Unauthorized("a secret reason")

        with pytest.raises(Unauthorized) as refused:
            evaluate("book/title", policy=Raising())
        assert "secret" not in str(refused.value)


METHODS = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def _type_name(value):
    """For names of tests that are the same in every run, as an address is not."""
    return type(value).__name__


class TestComingIn:
    @pytest.mark.parametrize(
        "closed",
        [
            object(), object, type, threading, len, lambda: 1, build, Policy(), [].append, build().get,
            types.SimpleNamespace(a=1), memoryview(b"x"), bytearray(b"x"), 1j, ..., NotImplemented,
            ValueError("x"), (lambda: (yield))().gi_frame, build.__code__, property(), threading.Lock(),
            types.MappingProxyType({}), Reader, type("Meta", (type,), {}), iter("abc"), bytes.fromhex,
            datetime.datetime(2026, 1, 1, tzinfo=type("Zone", (datetime.tzinfo,), {})()),
            type("Text", (str,), {})("x"), type("Number", (int,), {})(1), type("Data", (dict,), {})(),
            type("List", (list,), {})(), type("Bytes", (bytes,), {})(b"x"),
        ],
        ids=_type_name,
    )  # fmt: skip
    def test_what_is_neither_plain_nor_exposed_is_refused_when_it_is_met(self, closed):
        for source in ("thing", "python: [thing]", "python: thing == 1", "python: str(thing)",
                       "python: [x for x in holder]", "holder/0", "python: holder[0]", "python: holder",
                       "python: len(holder) and str(holder)", "string:${thing}", "string:${holder}",
                       "python: mapping.get('a')", "mapping/a", "python: mapping", "python: base.attribute",
                       "base/attribute", "base/method", "python: [b for a, b in pairs]",
                       "python: sorted(holder)", "python: base.method()"):  # fmt: skip
            if "attribute" in source and isinstance(closed, METHODS):
                continue  # a declared name that holds a function is a method
            with pytest.raises(Unauthorized):
                evaluate(
                    source, thing=closed, holder=[closed], mapping={"a": closed}, pairs=[(1, closed)],
                    base=Base(attribute=closed, answer=closed),
                )  # fmt: skip

    @pytest.mark.parametrize(
        "source",
        ["thing/shown", "python: thing.shown", "python: thing()", "python: thing.attribute()",
         "python: len(thing)", "python: 'a' in thing", "python: [x for x in thing]", "python: not thing",
         "python: thing.method(thing)", "python: [thing][0].shown", "string:${thing/shown}"],
    )  # fmt: skip
    def test_neither_a_value_nor_its_class_is_asked_what_it_equals(self, source):
        asked = []

        class Sly(type):
            def __eq__(cls, other):
                # A weak dict of classes asks each whether it is itself.
                asked.extend([] if other is cls else [other])
                return True

            __hash__ = type.__hash__

        @expose("shown", "method", "attribute")
        class Thing(Base, metaclass=Sly):
            def __eq__(self, other):
                asked.append(other)
                return True

            __hash__ = object.__hash__

        try:
            evaluate(source, thing=Thing(attribute=Thing(), answer=1))
        except (ExpressionError, Unauthorized):
            pass

        assert asked == []

    def test_uuids_and_moments_are_looked_into(self):
        class Number(int):
            pass

        forged = uuid.uuid4()
        object.__setattr__(forged, "int", Number(5))

        with pytest.raises(Unauthorized):
            evaluate("python: str(forged)", forged=forged)
        with pytest.raises(Unauthorized):
            evaluate("python: [forged] == [1]", forged=forged)

    def test_lazy_results_are_read_to_their_end(self):
        tree = OOBTree({"a": 1, "b": 2})
        answers = {
            "python: base.method()": [
                (value for value in "ab"), {"a": 1, "b": 2}.keys(), iter(["a", "b"]), map(str, "ab"),
                tree.keys(), tree.iterkeys(), filter(None, ["a", "b"]),
            ],
        }  # fmt: skip
        for source, lazy in answers.items():
            for answer in lazy:
                assert evaluate(source, base=Base(answer=answer)) == ["a", "b"]

    def test_endless_results_are_not(self):
        def endless():
            while True:
                yield 1

        with pytest.raises(ResourceLimit):
            evaluate("python: base.method()", base=Base(answer=endless()))
        with pytest.raises(ResourceLimit, match="items"):
            evaluate("python: base.method()", base=Base(answer=endless()), limits=Limits(items=10))

    def test_lazy_results_that_fail_do_so_without_a_raw_exception(self):
        def failing(error):
            yield 1
            raise error

        with pytest.raises(ExpressionError, match="exposed code raised OSError$"):
            evaluate("python: base.method()", base=Base(answer=failing(OSError("secret"))))
        with pytest.raises(Unauthorized):
            evaluate("python: base.method()", base=Base(answer=iter([object()])))

    def test_coroutines_are_closed_and_refused(self):
        async def later():
            return 1

        with pytest.raises(Unauthorized):
            evaluate("python: base.method()", base=Base(answer=later()))


class TestExposedCode:
    @pytest.mark.parametrize(
        ("raised", "kind", "said"),
        [
            (ValueError("secret"), ExpressionError, "exposed code raised ValueError"),
            (LookupError("secret"), ExpressionError, "LookupError"),
            (AttributeError("secret"), ExpressionError, "AttributeError"),
            (UndefinedName("secret"), ExpressionError, "UndefinedName"),
            (ResourceLimit("secret"), ResourceLimit, "reached a limit"),
            (Unauthorized("secret"), Unauthorized, "refused by the application"),
            (type("Unauthorized", (Exception,), {})("secret"), Unauthorized, "refused"),
            (type("ForbiddenAttribute", (AttributeError,), {})("secret"), Unauthorized, "refused"),
            (TransientError("secret"), CannotDecide, "again"),
            (CannotDecide("secret"), CannotDecide, "again"),
            (SystemExit("secret"), ExpressionError, "SystemExit"),
            (GeneratorExit("secret"), ExpressionError, "GeneratorExit"),
            (asyncio.CancelledError("secret"), ExpressionError, "CancelledError"),
            (type("Ending", (BaseException,), {})("secret"), ExpressionError, "Ending"),
            (RecursionError("secret"), ExpressionError, "RecursionError"),
            (MemoryError("secret"), ExpressionError, "MemoryError"),
            (QuotaExceeded("secret"), ExpressionError, "QuotaExceeded"),
        ],
    )
    def test_errors_are_told_by_their_kind_and_never_by_their_text(self, raised, kind, said):
        @expose()
        def fail():
            raise raised

        class Thing:
            @property
            def value(self):
                raise raised

            def method(self):
                raise raised

            def lazy(self):
                yield 1
                raise raised

            def __iter__(self):
                return self.lazy()

        expose("value", "method", "lazy", "__iter__")(Thing)
        for source in (
            "python: fail()",
            "fail",
            "fail | string:x",
            "python: thing.method()",
            "thing/method",
            "thing/lazy",
            "thing/lazy | string:x",
            "python: [x for x in thing]",
        ):
            with pytest.raises(kind) as refused:
                evaluate(source, fail=fail, thing=Thing())
            assert said in str(refused.value)
            assert "secret" not in str(refused.value)
            assert not isinstance(refused.value, UndefinedName)
            assert refused.value.__cause__ is raised
        with pytest.raises((ExpressionError, Unauthorized)) as refused:
            evaluate("thing/value", thing=Thing())
        assert "secret" not in str(refused.value)

    @pytest.mark.parametrize("where", ["__getitem__", "__len__", "__iter__", "__contains__"])
    def test_what_is_meant_to_end_a_thread_ends_an_operation_only(self, where):
        def fail(self, *args):
            raise GeneratorExit("secret")

        thing = expose(where)(type("Thing", (), {where: fail}))()
        source = {
            "__getitem__": "thing[0]", "__len__": "len(thing)", "__iter__": "[x for x in thing]",
            "__contains__": "1 in thing",
        }[where]  # fmt: skip
        with pytest.raises(ExpressionError, match="exposed code raised GeneratorExit$"):
            evaluate(f"python: {source}", thing=thing)

    def test_lazy_results_and_policies_may_end_so_as_well(self):
        def ending():
            yield 1
            raise asyncio.CancelledError

        class Ending(Policy):
            def allows(self, principal, permission, object):
                raise asyncio.CancelledError

        with pytest.raises(ExpressionError, match="exposed code raised CancelledError$"):
            evaluate("python: base.method()", base=Base(answer=ending()))
        with pytest.raises(CannotDecide):
            evaluate("book/title", policy=Ending())

    def test_an_interruption_by_the_operator_is_never_swallowed(self):
        def interrupt(*args):
            raise KeyboardInterrupt

        def interrupted():
            yield interrupt()

        class Interrupting(Policy):
            def allows(self, principal, permission, object):
                interrupt()

        class Thing:
            value = property(interrupt)
            __len__ = interrupt

        expose("value", "__len__")(Thing)
        for source in ("python: f()", "python: base.method()", "thing/value", "python: len(thing)"):
            with pytest.raises(KeyboardInterrupt):
                evaluate(
                    source, f=exposed(interrupt), base=Base(answer=interrupted()), thing=Thing()
                )
        with pytest.raises(KeyboardInterrupt):
            evaluate("book/title", policy=Interrupting())

    def test_our_own_errors_from_our_own_functions_keep_their_text(self):
        def put():
            raise QuotaExceeded("over 1000 calls")

        with pytest.raises(
            ExpressionError, match=r"put\(\): exposed code raised QuotaExceeded: over 1000 calls"
        ):
            evaluate("python: put()", put=exposed(put))

    def test_those_from_callables_of_others_do_not(self):
        class Thing:
            def put(self):
                raise QuotaExceeded("secret")

        for put in (Thing().put, functools.partial(Thing.put, Thing())):
            with pytest.raises(ExpressionError, match=r"exposed code raised QuotaExceeded$"):
                evaluate("python: put()", put=expose()(put))

    def test_what_has_no_value_is_undefined(self):
        with pytest.raises(UndefinedName, match="^base/attribute: has no value$"):
            evaluate("base/attribute", base=Base())

    def test_arguments_leave_as_plain_copies_or_exposed_objects(self):
        names = build()
        got = []
        take = exposed(lambda *args, **kwargs: got.append((args, kwargs)))

        evaluate(
            "python: take(result, book, range(2), [book], x=options['tags'])", names, take=take
        )

        (result, book, numbers, books), keywords = got[0]
        assert result == names["result"]
        assert result is not names["result"]
        assert result["rows"][0] is not names["result"]["rows"][0]
        assert book is names["book"]
        assert books == [names["book"]]
        assert numbers == [0, 1]
        assert keywords == {"x": ["x", "y"]}

    @pytest.mark.parametrize(
        "argument", ["ring", "len", "book.lend", "[ring]", "{'a': len}", "default.x"]
    )
    def test_functions_do_not_leave_as_arguments(self, argument):
        with pytest.raises(Unauthorized):
            evaluate(f"python: ring({argument})")

    def test_objects_are_no_keys_of_what_leaves(self):
        names = build()
        for value in (
            {names["book"]: 1},
            {names["book"]},
            frozenset({names["book"]}),
            {(names["book"],): 1},
        ):
            with pytest.raises(Unauthorized):
                evaluate("value", value=value)

    def test_the_representation_of_an_object_is_no_answer(self):
        with pytest.raises(Unauthorized):
            evaluate("python: ring(user)")
        with pytest.raises(Unauthorized):
            evaluate("python: ring(message=root)")
        assert evaluate("python: ring('at 0x1 in my text')") == "ring: at 0x1 in my text"
        assert evaluate("python: ring('look at 0x1')") == "ring: look at 0x1"

    def test_an_exposed_callable_is_called_by_trusted_code_as_it_is(self):
        function = exposed(lambda x: x + 1, name="increase")

        assert function(1) == 2
        assert function.name == "increase"
        assert exposed(Base(answer=1).method).name == "method"
        assert exposed(type("Callable", (), {"__call__": lambda self: 1})()).name == "Callable"

    def test_methods_and_instances_can_be_exposed_as_functions(self):
        assert evaluate("python: f(1)", f=expose()(Base().method)) == ((1,), {})
        assert evaluate("python: f('abc')", f=exposed(len)) == 3

    def test_a_timeout_ends_the_waiting(self):
        release = threading.Event()

        @expose(timeout=0.05)
        def slow():
            release.wait(10)

        @expose(timeout=10)
        def quick(value):
            if value == 0:
                raise ZeroDivisionError("secret")
            return value

        with pytest.raises(ResourceLimit):
            evaluate("python: slow()", slow=slow)
        release.set()
        assert evaluate("python: quick(5)", quick=quick) == 5
        with pytest.raises(ExpressionError, match="ZeroDivisionError$"):
            evaluate("python: quick(0)", quick=quick)

    def test_its_time_is_not_counted(self):
        class Clock:
            seconds = 0.0

            def monotonic(self):
                return self.seconds

        clock = Clock()

        def slow():
            clock.seconds += 100

        text = "python: [x for x in range(3000)] and [slow(), len([x for x in range(3000)])][1]"
        names = {"slow": exposed(slow)}
        compiled = compile_expression(text)
        assert compiled.evaluate(names, principal=ANN, policy=Policy(), clock=clock) == 3000

        def busy():
            clock.seconds += 100
            return 1

        clock.monotonic = busy_clock = lambda: busy() and clock.seconds
        assert busy_clock
        with pytest.raises(ResourceLimit, match="seconds"):
            compile_expression("python: [x for x in range(30000)]").evaluate(
                {}, principal=ANN, policy=Policy(), clock=clock
            )


class TestGoingOut:
    def test_exposed_objects_leave_as_they_are(self):
        names = build()
        assert evaluate("book", names) is names["book"]
        assert evaluate("python: [book, {'b': book}]", names) == [
            names["book"],
            {"b": names["book"]},
        ]

    def test_lazy_data_leaves_as_a_list(self):
        assert evaluate("python: {'a': range(2)}") == {"a": [0, 1]}
        assert evaluate("value", value={"a": (x for x in "ab")}) == {"a": ["a", "b"]}

    def test_default_leaves_as_nothing(self):
        assert evaluate("python: [default]") == [None]

    def test_moments_leave_as_they_are(self):
        assert evaluate("python: [moment, uuid]", moment=datetime.datetime(2026, 1, 1), uuid=uuid.UUID(int=1)) == [
            datetime.datetime(2026, 1, 1), uuid.UUID(int=1)
        ]  # fmt: skip


class TestPrincipal:
    def test_shows_who_it_is_and_nothing_else(self):
        names = {"user": Principal("ann", "members", ("editor",), "Ann A.")}

        assert evaluate(
            "string:${user/id} ${user/source} ${user/roles/0} ${user/title}", names
        ) == ("ann members editor Ann A.")
        for name in ("owner", "evolve", "__class__"):
            with pytest.raises((Unauthorized, ExpressionError)):
                evaluate(f"python: user.{name}", names)


class TestHostPolicy:
    """Room for AccessControl: a policy that knows about attributes itself."""

    class Host(Policy):
        def exposes(self, principal, object, name):
            if type(object).__name__ != "Hosted":
                return False
            return name in {"", "title", "__getitem__"} or (
                name == "notes" and principal.id == "root"
            )

    class Hosted:
        title, notes = "Title", "secret notes"

        def __getitem__(self, key):
            return f"item {key}"

    def test_is_asked_where_no_declaration_speaks(self):
        names = build() | {"thing": self.Hosted(), "other": object()}
        policy = self.Host()

        assert evaluate("thing/title", names, policy=policy) == "Title"
        assert evaluate("thing/x", names, policy=policy) == "item x"
        assert (
            evaluate("thing/notes", names, policy=policy, principal=Principal("root"))
            == "secret notes"
        )
        assert evaluate("thing/notes", names, policy=policy) == "item notes"
        for source in (
            "python: thing.notes",
            "python: thing.__class__",
            "python: len(thing)",
            "other",
            "user/card",
        ):
            with pytest.raises((Unauthorized, ExpressionError)):
                evaluate(source, names, policy=policy)

    def test_is_asked_for_the_author_too(self):
        with pytest.raises(Unauthorized):
            evaluate("python: thing.notes", thing=self.Hosted(), policy=self.Host(),
                     principal=Principal("root"), author=ANN)  # fmt: skip

    def test_that_cannot_decide_decides_nothing(self):
        class Broken(Policy):
            def exposes(self, principal, object, name):
                raise InvalidArguments("secret")

        with pytest.raises(CannotDecide):
            evaluate("thing/title", thing=self.Hosted(), policy=Broken())


class TestZopeSecurity:
    """Checkers of zope.security as declarations."""

    @pytest.fixture
    def zoo(self):
        from zope.security.checker import (
            CheckerPublic,
            NamesChecker,
            ProxyFactory,
            defineChecker,
            undefineChecker,
        )

        class Animal:
            name, weight, secret = "Leo", 190, "secret"

            def feed(self):
                return ProxyFactory([ProxyFactory(Animal())])

            def cage(self):
                return ProxyFactory(Cage(), NamesChecker(["size"], "View"))

            def __getitem__(self, key):
                return key

        class Cage:
            size = 12

        checker = NamesChecker(["name", "feed", "cage", "__getitem__"])
        checker.get_permissions["weight"] = "View"
        checker.get_permissions["secret"] = "Manage"
        assert checker.permission_id("name") is CheckerPublic
        defineChecker(Animal, checker)
        yield Animal()
        undefineChecker(Animal)

    def test_declare_what_expressions_may_read(self, zoo):
        assert evaluate("python: [zoo.name, zoo.weight]", zoo=zoo) == ["Leo", 190]
        assert evaluate("zoo/other", zoo=zoo) == "other"
        for source in (
            "python: zoo.secret",
            "python: zoo.unknown",
            "python: len(zoo)",
            "python: list(zoo)",
        ):
            with pytest.raises(Unauthorized):
                evaluate(source, zoo=zoo)

    def test_hold_for_proxied_objects_and_results(self, zoo):
        from zope.security.checker import NamesChecker
        from zope.security.proxy import ProxyFactory, removeSecurityProxy

        proxied = ProxyFactory(zoo)
        assert evaluate("python: [zoo.name, zoo.feed()[0].name, zoo['x']]", zoo=proxied) == [
            "Leo",
            "Leo",
            "x",
        ]
        assert evaluate("python: zoo.cage().size", zoo=zoo) == 12
        with pytest.raises(Unauthorized):
            evaluate("python: zoo.cage().width", zoo=zoo)
        with pytest.raises(Unauthorized):
            evaluate("python: zoo.cage().size", zoo=zoo, principal=Principal("nobody"))
        assert evaluate("python: zoo", zoo=proxied) is proxied

        policy = Policy()
        evaluate("zoo/weight", zoo=proxied, policy=policy)
        assert policy.asked[0][2] is removeSecurityProxy(proxied)
        with pytest.raises(Unauthorized):
            evaluate("zoo/name", zoo=ProxyFactory(zoo, NamesChecker(["weight"])))

    @pytest.mark.parametrize(
        "value", [itertools.count(), itertools.repeat(1), InterfaceClass("IThing"), weakref.ref(Base)],
        ids=lambda value: type(value).__name__,
    )  # fmt: skip
    def test_what_zope_security_opens_by_itself_is_no_declaration(self, zoo, value):
        for source in ("value", "python: [value]", "python: [x for x in value]", "python: value()"):
            with pytest.raises(Unauthorized):
                evaluate(source, value=value)
        with pytest.raises(Unauthorized):
            evaluate("python: base.method()", base=Base(answer=value))


class TestTheOperationsThemselves:
    """What no text reaches, because something before it refuses already."""

    def operations(self, **names):
        return Operations(names, ANN, Policy(), None, Limits())

    def test_a_function_that_is_not_exposed_is_not_called(self):
        with pytest.raises(Unauthorized):
            self.operations().call(lambda: 1, (), {})
        with pytest.raises(Unauthorized):
            self.operations().call(object(), (), {})

    def test_underscore_names_have_no_rule_whatever_was_declared(self):
        run = self.operations()
        assert run.rule_for(build()["root"], "__len__") is not None
        assert run.rule_for(build()["root"], "__init__") is None
        assert run.rule_for("text", "upper") is None

    def test_a_declared_name_may_hold_a_function_made_for_one_use(self):
        base = Base(attribute=exposed(lambda x: x + 1))
        assert evaluate("python: base.attribute(1)", base=base) == 2

    def test_a_stack_that_is_used_up_is_a_limit(self):
        key = ()
        for _ in range(5_000):
            key = (key,)
        with pytest.raises(ResourceLimit, match="memory"):
            evaluate("python: {key: 1}", key=key)

    @pytest.mark.parametrize(
        "source",
        [
            "python: 1 if holder[0] else 2", "python: 1 if mapping['a'] else 2", "not:holder/0",
            "not:mapping/a", "python: len(list(holder))", "python: any(holder)",
            "python: 1 if opened['x'] else 2", "python: 1 if mapping.get('a') else 2",
            "python: [1 for x in holder]", "python: [1 for a, b in [[1, 2], [3, holder[0]]]]",
            "python: thing is None", "python: 1 if base.attribute else 2", "exists:holder/0/x",
        ],
    )  # fmt: skip
    def test_what_is_closed_is_refused_when_it_is_met_and_not_only_when_it_leaves(self, source):
        closed = object()

        @expose("__getitem__")
        class Opened:
            def __getitem__(self, key):
                return closed

        with pytest.raises(Unauthorized):
            evaluate(source, thing=closed, holder=[closed], mapping={"a": closed}, opened=Opened(),
                     base=Base(attribute=closed))  # fmt: skip

    def test_slices_are_charged_like_what_they_are(self):
        for source in ("python: text[1:]", "python: data[:-1]"):
            with pytest.raises(ResourceLimit, match="a text"):
                evaluate(source, {"text": "x" * 99, "data": b"x" * 99}, limits=Limits(text=50))
        for source in ("python: items[1:]", "python: pair[:-1]"):
            names = {"items": [0] * 99, "pair": (0,) * 99}
            with pytest.raises(ResourceLimit, match="50 items"):
                evaluate(source, names, limits=Limits(items=50))
        assert evaluate("python: len(range(99)[1:])", limits=Limits(items=50)) == 98

    def test_sizes_grow_with_the_data(self):
        run = self.operations()
        assert run.plain_size("x" * 1600) == 101
        assert run.plain_size(b"x" * 1600) == 101
        assert run.plain_size([1, "x" * 160, {"a": (1,)}]) == 1 + 1 + 11 + 1 + 1 + 2

    def test_long_keys_are_charged(self):
        key = "x" * 100_000
        with pytest.raises(ResourceLimit):
            evaluate("python: [d[key] for x in range(900)]", {"d": {key: 1}, "key": key},
                     limits=Limits(steps=50_000))  # fmt: skip
        short = {"d": {"k": 1}, "key": "k"}
        assert len(evaluate("python: [d[key] for x in range(900)]", short)) == 900

    def test_depth_is_counted_exactly(self):
        def nested(levels):
            value = 1
            for _ in range(levels):
                value = [value]
            return value

        assert evaluate("value", value=nested(5), limits=Limits(depth=5)) == nested(5)
        with pytest.raises(ResourceLimit):
            evaluate("value", value=nested(6), limits=Limits(depth=5))

    def test_errors_of_lazy_results_show_no_text_of_ours_either(self):
        def failing():
            yield 1
            raise QuotaExceeded("secret")

        with pytest.raises(ExpressionError) as refused:
            evaluate("python: base.method()", base=Base(answer=failing()))
        assert "secret" not in str(refused.value)

    def test_a_function_with_a_timeout_keeps_no_process_alive(self):
        daemons = []
        f = exposed(lambda: daemons.append(threading.current_thread().daemon), timeout=5)
        evaluate("python: f()", f=f)
        assert daemons == [True]

    def test_the_number_of_lazy_items_is_counted_exactly(self):
        limits = Limits(items=10)
        assert (
            len(evaluate("python: base.method()", base=Base(answer=iter(range(10))), limits=limits))
            == 10
        )
        with pytest.raises(ResourceLimit):
            evaluate("python: base.method()", base=Base(answer=iter(range(11))), limits=limits)

    def test_the_depth_of_plain_data_is_counted_exactly(self):
        assert evaluate("python: str([[[]]])", limits=Limits(depth=3)) == "[[[]]]"
        with pytest.raises(ResourceLimit):
            evaluate("python: str([[[]]])", limits=Limits(depth=2))

    def test_a_declaration_for_data_opens_nothing(self):
        expose("real")(float)
        with pytest.raises(Unauthorized):
            evaluate("python: (1.5).real")
        assert self.operations().rule_for(1.5, "real") is None

    def test_declarations_come_before_what_a_host_opens(self):
        class Host(Policy):
            def exposes(self, principal, object, name):
                return True

        base = Base(hidden="secret")
        assert evaluate("base/shown", base=base, policy=Host()) == "shown"
        with pytest.raises(Unauthorized):
            evaluate("base/hidden", base=base, policy=Host())

    def test_only_errors_of_this_package_keep_their_text(self):
        class Mine(QuotaExceeded):
            pass

        def fail():
            raise Mine("secret")

        with pytest.raises(ExpressionError) as refused:
            evaluate("python: f()", f=exposed(fail))
        assert "secret" not in str(refused.value)

    def test_errors_of_properties_and_operations_are_told_by_their_kind(self):
        @expose("value", "__len__")
        class Failing:
            @property
            def value(self):
                raise QuotaExceeded("secret")

            __len__ = value.fget

        for source in ("python: thing.value", "python: len(thing)"):
            with pytest.raises(ExpressionError, match="exposed code raised QuotaExceeded$"):
                evaluate(source, thing=Failing())
