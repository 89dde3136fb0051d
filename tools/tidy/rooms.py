# SPDX-License-Identifier: Apache-2.0
"""The table of rooms as one dict, and the rules that hold every import against it.

import-linter keeps the layers; this table is narrower and names each room's neighbours one by one. A room that is not
in the table may not exist. The table does not say why: docs/ARCHITECTURE.md does.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tools.tidy.tree import OUR_PACKAGE, Finding, Source, Tree

EVERYTHING = ("",)  # every name starts with it
# The part of trust that the core may see: documents as values and their check, under the core's own purity contract.
PURE_TRUST = ("trust.envelope", "trust.fields", "trust.release", "trust.root", "trust.verify")


@dataclass(frozen=True, slots=True)
class Room:
    """What one room may import: other rooms (`trust.verify` opens that module only) and outside packages."""

    rooms: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


ROOMS: dict[str, Room] = {
    "": Room(("guard",)),  # the package itself: `import firecurtain` must stay as light as the guard
    "terms": Room(),
    "permit": Room(("terms",)),
    "artifact": Room(("terms",)),
    "wire": Room(("terms",), ("msgspec", "cryptography")),
    "guard": Room(("terms", "permit", "artifact")),
    "bus": Room(("terms",), ("nats", "msgspec", "structlog")),
    "trust": Room(("terms", "artifact", "wire"), ("msgspec", "cryptography", "securesystemslib")),
    "canary": Room(("terms", "wire")),
    "sweep": Room(("terms", "artifact", "wire")),
    "domain": Room(("terms", "wire", "canary", *PURE_TRUST, "sweep.judge"), ("msgspec",)),
    "ledger": Room(("terms", "wire", "bus", "domain"), ("msgspec", "structlog")),
    "paging": Room(("terms", "wire", "bus", "domain")),
    "agent": Room(("terms", "wire", "permit", "artifact", "trust", "sweep", "bus"), ("msgspec", "structlog")),
    "control": Room(("terms", "wire", "domain", "bus", "ledger", "paging"), ("msgspec", "structlog")),
    "console": Room(("terms", "control")),
    "drills": Room(("terms", "control", "agent", "console")),
    "rehearsal": Room(EVERYTHING, ("msgspec", "rich", "structlog")),
    "cli": Room(EVERYTHING, ("msgspec", "rich", "structlog", "typer")),
}


def find_files_outside_rooms(tree: Tree) -> Iterator[Finding]:
    """A shipped file that is in no package, so that no other rule would see it."""
    for source in tree.sources:
        if source.path.startswith("src/") and not source.is_ours:
            yield source.finding(1, "stands in no package of ours: give every folder above it an __init__.py")


def find_forbidden_edges(tree: Tree) -> Iterator[Finding]:
    """An import from one room into another that the table does not name."""
    for source in tree.shipped():
        if source.room not in ROOMS:
            yield source.finding(1, f"room {source.room!r} is not in the table of rooms (tools/tidy/rooms.py)")
            continue
        for line, target in find_imports(source):
            package, _, name = target.partition(".")
            if package == OUR_PACKAGE and not is_open_to(source.room, name):
                yield source.finding(
                    line, f"{source.room or OUR_PACKAGE} may not import {target} (tools/tidy/rooms.py)"
                )


def is_open_to(room: str, name: str) -> bool:
    """Whether `room` may import `name`, a module or member with `firecurtain.` taken off ("" is the package itself,
    which brings the guard).

    >>> is_open_to("domain", "trust.verify.verify_release"), is_open_to("domain", "trust.signers")
    (True, False)
    """
    opened = ROOMS[room].rooms
    if name and name.split(".")[0] == room:
        return True
    return opened == EVERYTHING or any(name == part or name.startswith(f"{part}.") for part in opened)


def find_forbidden_packages(tree: Tree) -> Iterator[Finding]:
    """An import of an outside package by a room that has no business with it."""
    for source in tree.shipped():
        for line, target in find_imports(source):
            package = target.split(".")[0]
            if package == OUR_PACKAGE or package in sys.stdlib_module_names:
                continue
            allowed = ROOMS.get(source.room, Room()).packages
            if package not in allowed:
                text = f"{source.room or OUR_PACKAGE} may import {', '.join(allowed) or 'the standard library only'}"
                yield source.finding(line, f"{text}, not {package} (tools/tidy/rooms.py and docs/DEPENDENCIES.md)")


def find_imports(source: Source) -> Iterator[tuple[int, str]]:
    """Every imported module or member as (line, dotted name); imports inside functions and `if` blocks too."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = compute_base(source, node)
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def compute_base(source: Source, node: ast.ImportFrom) -> str:
    """The absolute module of a `from` import, relative ones resolved."""
    if not node.level:
        return node.module or ""
    parts = source.module.split(".")
    kept = parts[: len(parts) - node.level + source.is_package]
    return ".".join([*kept, node.module] if node.module else kept)
