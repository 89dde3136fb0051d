# SPDX-License-Identifier: Apache-2.0
"""Pure rooms take time, ids and randomness as arguments; clocks are read in modules named clock.py and nowhere else.

Looks at names in the syntax tree, so it does not see what a called function does elsewhere: the import contracts close
that door. Iteration order has its own module, `order`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tools.tidy.rooms import PURE_TRUST, find_imports
from tools.tidy.tree import OUR_PACKAGE, Finding, Source, Tree

PURE = ("domain", "canary", *PURE_TRUST, "agent.core", "sweep.judge")

WORLD_MODULES = frozenset(
    {"asyncio", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "shutil", "signal", "socket"}
    | {"sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uuid"}
)
PURE_PATHS = "pathlib.Pure"  # they compute with names and touch no disk
WORLD_CALLS = frozenset({"open", "input", "print", "eval", "exec", "__import__"})
CALENDAR_CALLS = frozenset({"now", "utcnow", "today"})

CLOCK_READS = frozenset(
    f"{name}{suffix}"
    for name in ("clock_gettime", "monotonic", "perf_counter", "process_time", "thread_time", "time")
    for suffix in ("", "_ns")
)


def is_pure(source: Source) -> bool:
    """Whether the module stands under the purity contract."""
    names = (f"{OUR_PACKAGE}.{room}" for room in PURE)
    return any(source.module == name or source.module.startswith(f"{name}.") for name in names)


def find_impurity(tree: Tree) -> Iterator[Finding]:
    """A pure module that imports the world, opens something or asks what day it is."""
    for source in filter(is_pure, tree.sources):
        for line, target in find_imports(source):
            if target.split(".")[0] in WORLD_MODULES and not target.startswith(PURE_PATHS):
                yield source.finding(line, f"a pure module may not import {target}: take the value as an argument")
        for node in source.nodes:
            name = compute_call_name(node)
            base, _, last = name.rpartition(".")
            if name in WORLD_CALLS or (base and last in CALENDAR_CALLS):
                yield source.finding(node, f"a pure module may not call {name}(): take the value as an argument")


def find_clocks(tree: Tree) -> Iterator[Finding]:
    """A clock read outside a module named clock.py."""
    for source in tree.shipped():
        if source.path.endswith("/clock.py"):
            continue
        for node, name in find_clock_reads(source):
            yield source.finding(node, f"reads a clock ({name}): only a module named clock.py may; pass the instant in")


def find_clock_reads(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Uses of the time module's clocks, of a calendar's now() and of an event loop's time()."""
    for node in source.nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from ((node, alias.name) for alias in node.names if alias.name in CLOCK_READS)
        elif isinstance(node, ast.Attribute) and node.attr in CLOCK_READS and compute_dotted(node.value) == "time":
            yield node, f"time.{node.attr}"
        name = compute_call_name(node)
        base, _, last = name.rpartition(".")
        is_calendar = last in CALENDAR_CALLS and base.split(".")[-1] in ("datetime", "date")
        if is_calendar or (last == "time" and base.split(".")[-1] in ("loop", "get_running_loop()")):
            yield node, name


def compute_call_name(node: ast.AST) -> str:
    """The dotted name a call goes to, "" for anything that is no call.

    >>> compute_call_name(ast.parse("datetime.datetime.now()", mode="eval").body)
    'datetime.datetime.now'
    """
    return compute_dotted(node.func) if isinstance(node, ast.Call) else ""


def compute_dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{compute_dotted(node.value)}.{node.attr}"
    if isinstance(node, ast.Call):
        return f"{compute_dotted(node.func)}()"
    return node.id if isinstance(node, ast.Name) else "…"
