# SPDX-License-Identifier: Apache-2.0
"""Rules about what files say: a licence line, a module docstring, no assert that -O would strip, and nothing that names
the machine somebody worked on. Does not judge whether the prose is good.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tools.tidy.tree import Finding, Tree

LICENCE = "SPDX-License-Identifier: Apache-2.0"
LICENSED_SUFFIXES = (".py", ".c", ".h", ".sh", "Makefile", ".ci/run", "pyproject.toml")

# Written apart so that this file does not find itself.
MACHINE_PATH = re.compile(r"(?<![\w.<>~-])/(?:home|root|Users|work)" r"/[\w.-]+")
REGISTRY = re.compile(
    r"py"
    r"pi\.(?:org|python)|python"
    r"hosted"
    r"|https?:/"
    r"/\S*/simple/?(?=[\s\"']|$)|--(?:extra-)?index"
    r"-url[ =]\S*/"
)
LONGEST_TEXT_BYTES = 2_000_000  # a larger file is data; reading it all would cost more than the rule is worth


def find_missing_licence(tree: Tree) -> Iterator[Finding]:
    """A source file whose first line (second after #!) is not the licence line."""
    for name in tree.files:
        if not name.endswith(LICENSED_SUFFIXES):
            continue
        lines = (tree.root / name).read_text().splitlines()[:2]
        first = lines[1:] if lines and lines[0].startswith("#!") else lines[:1]
        if LICENCE not in "".join(first):
            yield Finding(name, 1, f"does not start with the line `{LICENCE}`")


def find_missing_docstring(tree: Tree) -> Iterator[Finding]:
    """A Python file that does not open with what it does and what it does not do."""
    for source in tree.sources:
        if not ast.get_docstring(source.syntax):
            yield source.finding(1, "has no module docstring: say what it does, why, and what it does not do")


def find_assert(tree: Tree) -> Iterator[Finding]:
    """An assert statement in shipped code."""
    for source in tree.sources:
        if source.path.startswith("src/"):
            for node in source.nodes:
                if isinstance(node, ast.Assert):
                    yield source.finding(node, "python -O strips assert: raise InvariantError instead")


def find_machine_paths(tree: Tree) -> Iterator[Finding]:
    """A path of one machine's home or work folder, or a package registry's address, in any text file."""
    for name in tree.files:
        path = tree.root / name
        content = path.read_bytes() if path.stat().st_size <= LONGEST_TEXT_BYTES else b"\0"
        if b"\0" in content:
            continue
        for number, line in enumerate(content.decode(errors="replace").splitlines(), start=1):
            if found := MACHINE_PATH.search(line):
                yield Finding(name, number, f"names {found[0]}, a path of one machine")
            if found := REGISTRY.search(line):
                yield Finding(name, number, f"names {found[0]}, a package registry: who installs decides from where")
