# SPDX-License-Identifier: ZPL-2.1
"""What must hold for the source as a whole. The import layers themselves: `make lint`."""

from __future__ import annotations

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsgi_zasync

PACKAGE = Path(wsgi_zasync.__file__).parent
MODULES = {
    path.relative_to(PACKAGE.parent).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
TREES = {name: ast.parse(source) for name, source in MODULES.items()}

PUBLIC = """
    get_manager CallManager CallManagerMiddleware Call CallState Failure Principal RetryPolicy
    Retry Secret plugin expose SecurityPolicy
    ZasyncError CallNotFound CallNotFinal CallIsFinal CallFailed CallCancelled CallExpired
    NotAuthenticated Unauthorized UnknownPlugin InvalidArguments ExpressionError DuplicateCall
    QuotaExceeded TransactionOver ConfigurationError
""".split()

#: Where a transaction may be committed; everybody else joins one.
MAY_COMMIT = {
    "wsgi_zasync/web/transactions.py",
    "wsgi_zasync/worker/membership.py",
}

#: What reads the time or waits for it.
TIME_READS = {
    ("time", "time"), ("time", "monotonic"), ("time", "perf_counter"), ("time", "sleep"),
    ("time", "time_ns"), ("time", "monotonic_ns"), ("datetime", "now"), ("datetime", "utcnow"),
    ("datetime", "today"), ("date", "today"),
}  # fmt: skip

#: What opens a connection to somewhere else, if it is called or imported.
OPENS_CONNECTIONS = {
    "connectTCP", "connectSSL", "connectUDP", "Agent", "HostnameEndpoint", "TCP4ClientEndpoint",
    "TCP6ClientEndpoint", "clientFromString", "create_connection", "urlopen",
}  # fmt: skip


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _decorators(node: ast.AST) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])


def code_lines(source: str) -> int:
    return sum(1 for line in source.splitlines() if line.strip())


# -- the public API ----------------------------------------------------------------------


def test_the_package_exports_what_the_contract_names_and_nothing_else():
    assert sorted(wsgi_zasync.__all__) == sorted(PUBLIC)
    assert all(hasattr(wsgi_zasync, name) for name in PUBLIC)


def test_names_are_exported_in_sorted_order():
    assert wsgi_zasync.__all__ == sorted(wsgi_zasync.__all__)


@pytest.mark.parametrize("heavy", ["twisted", "ZEO", "chameleon", "cryptography", "waitress"])
def test_importing_the_package_does_not_load(heavy):
    script = f"import sys, wsgi_zasync; sys.exit({heavy!r} in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, check=False)

    assert done.returncode == 0


def test_a_web_process_with_a_middleware_does_not_load_twisted():
    script = (
        "import sys, ZODB, ZODB.MappingStorage, wsgi_zasync\n"
        "db = ZODB.DB(ZODB.MappingStorage.MappingStorage())\n"
        "wsgi_zasync.CallManagerMiddleware(lambda environ, start_response: [], db)\n"
        "sys.exit('twisted' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", script], cwd=PACKAGE.parent, check=False)

    assert done.returncode == 0


# -- rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_begins_with_its_licence_its_concept_and_the_future(name):
    source, tree = MODULES[name], TREES[name]

    assert source.startswith("# SPDX-License-Identifier: ZPL-2.1\n")
    assert ast.get_docstring(tree)
    assert "from __future__ import annotations" in source or len(tree.body) == 1


@pytest.mark.parametrize("name", MODULES)
def test_only_who_owns_a_transaction_commits_it(name):
    commits = [
        node.lineno
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "commit"
        # Ours take arguments, and lead to one of these modules.
        and not node.args
    ]

    assert name in MAY_COMMIT or not commits, f"lines {commits}"


@pytest.mark.parametrize("name", MODULES)
def test_only_the_clock_reads_the_time(name):
    reads = [
        node.lineno
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr) in TIME_READS
    ]

    assert name == "wsgi_zasync/clock.py" or not reads, f"lines {reads}"


@pytest.mark.parametrize("name", MODULES)
def test_one_module_opens_outgoing_connections(name):
    opens = [
        node.lineno
        for node in ast.walk(TREES[name])
        if (isinstance(node, ast.Attribute) and node.attr in OPENS_CONNECTIONS)
        or (isinstance(node, ast.alias) and node.name in OPENS_CONNECTIONS)
    ]

    assert name == "wsgi_zasync/worker/plugins/outgoing.py" or not opens, f"lines {opens}"


@pytest.mark.parametrize("name", MODULES)
def test_names_are_of_one_vocabulary(name):
    stem = Path(name).stem
    assert stem not in {"utils", "util", "common", "helpers", "misc", "base"}
    own = [stem] + [
        node.name
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    foreign = [
        each for each in own if re.search(r"(?i)(^|_)(task|job|future|handler)s?(_|$)", each)
    ]

    assert not foreign


@pytest.mark.parametrize("name", MODULES)
def test_nothing_swallows_every_exception(name):
    silent = [
        node.lineno
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in {"Exception", "BaseException"})
        and all(isinstance(each, ast.Pass | ast.Continue) for each in node.body)
    ]

    assert not silent, f"lines {silent}"


@pytest.mark.parametrize("name", MODULES)
def test_persistent_classes_live_where_their_path_is_a_data_format(name):
    persistent = [
        node.name
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.ClassDef)
        and any(getattr(base, "id", "") == "Persistent" for base in node.bases)
    ]

    allowed = name == "wsgi_zasync/call.py" or name.startswith("wsgi_zasync/store/")
    assert allowed or not persistent


# -- budgets -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_one_concept_of_at_most_400_lines(name):
    assert code_lines(MODULES[name]) <= 400


def test_the_median_module_has_at_most_120_lines():
    sizes = [code_lines(source) for source in MODULES.values()]

    assert statistics.median(sizes) <= 120


def test_functions_are_small():
    lengths = [
        sum(
            1
            for line in MODULES[name].splitlines()[node.body[0].lineno - 1 : node.end_lineno]
            if line.strip()
        )
        for name, tree in TREES.items()
        for node in functions(tree)
    ]

    assert statistics.median(lengths) <= 8
    assert statistics.quantiles(lengths, n=10)[-1] <= 30


@pytest.mark.parametrize("name", MODULES)
def test_every_public_thing_has_a_docstring(name):
    missing = [
        node.name
        for parent in [TREES[name], *(n for n in TREES[name].body if isinstance(n, ast.ClassDef))]
        for node in parent.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not any(getattr(each, "attr", "") == "setter" for each in _decorators(node))
        and not getattr(parent, "name", "").startswith("_")
        and not ast.get_docstring(node)
    ]

    assert not missing
