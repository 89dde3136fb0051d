# SPDX-License-Identifier: Apache-2.0
"""The files of a tree, parsed once, and the shape of a finding. Knows no rule."""

from __future__ import annotations

import ast
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CODE_FOLDERS = ("src", "tests", "tools", "bench")
OUR_PACKAGE = "firecurtain"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One line for a person: where, and what to do."""

    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file. `module` is its dotted name, or "" for a file outside every package."""

    path: str
    module: str
    syntax: ast.Module
    nodes: tuple[ast.AST, ...]  # all of them, walked once: most rules look at each

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def room(self) -> str:
        """The room a module of ours lives in: `wire`, `terms`; "" for the package's own __init__ and for others."""
        parts = self.module.split(".")
        return parts[1] if parts[0] == OUR_PACKAGE and len(parts) > 1 else ""

    @property
    def is_ours(self) -> bool:
        """Whether this ships: a module of the package, not a tool, a test or an artifact's data."""
        return self.module.split(".")[0] == OUR_PACKAGE

    def finding(self, node: ast.AST | int, text: str) -> Finding:
        return Finding(self.path, node if isinstance(node, int) else getattr(node, "lineno", 1), text)


@dataclass(frozen=True, slots=True)
class Tree:
    """Everything the rules look at."""

    root: Path
    files: tuple[str, ...]
    sources: tuple[Source, ...]
    scripts: tuple[str, ...]  # `module:function` of every command in pyproject.toml

    def shipped(self) -> Iterator[Source]:
        return (source for source in self.sources if source.is_ours)


def read_tree(root: Path) -> Tree:
    """Read and parse every Python file below the code folders."""
    files = read_file_names(root)
    python = [name for name in files if name.endswith(".py") and name.split("/")[0] in CODE_FOLDERS]
    present = set(files)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return Tree(
        root=root,
        files=files,
        sources=tuple(read_source(root, name, present) for name in python),
        scripts=tuple(project.get("scripts", {}).values()),
    )


def read_file_names(root: Path) -> tuple[str, ...]:
    """What git tracks or would track; in a tree without git (a planted fault, an unpacked archive) every file."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.split("\0")
        return tuple(sorted(name for name in listed if name and (root / name).is_file()))
    found = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return tuple(sorted(name for name in found if "__pycache__" not in name))


def read_source(root: Path, name: str, present: set[str]) -> Source:
    text = (root / name).read_text()
    syntax = ast.parse(text, filename=name)
    return Source(name, compute_module(name, present), syntax, tuple(ast.walk(syntax)))


def compute_module(name: str, present: set[str]) -> str:
    """The dotted name, when every folder on the way is a package; else "".

    >>> compute_module("src/a/b.py", {"src/a/__init__.py", "src/a/b.py"}), compute_module("src/a/b.py", {"src/a/b.py"})
    ('a.b', '')
    """
    parts = name.removeprefix("src/").removesuffix(".py").split("/")
    prefix = "src/" if name.startswith("src/") else ""
    folders = ["/".join(parts[:depth]) for depth in range(1, len(parts))]
    if not folders or any(f"{prefix}{folder}/__init__.py" not in present for folder in folders):
        return ""
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
