# SPDX-License-Identifier: Apache-2.0
"""A small clean tree to plant faults in, so that each rule is seen to catch what it is for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.tidy.tree import Finding, Tree, read_tree

HEAD = '# SPDX-License-Identifier: Apache-2.0\n"""A module. It does nothing else."""\n'

CLEAN = {
    "pyproject.toml": "# SPDX-License-Identifier: Apache-2.0\n[project]\nname = 'x'\n"
    "[project.scripts]\nfirecurtain = 'firecurtain.cli.main:main'\n",
    "src/firecurtain/__init__.py": HEAD,
    "src/firecurtain/terms.py": f"{HEAD}LIMIT = 1\n",
    "src/firecurtain/domain/__init__.py": HEAD,
    "src/firecurtain/domain/state.py": f"{HEAD}from firecurtain.terms import LIMIT\nSTATE = LIMIT\n",
    "src/firecurtain/cli/__init__.py": HEAD,
    "src/firecurtain/cli/main.py": f"{HEAD}from firecurtain.domain import state\ndef main(): return state.STATE\n",
}

Rule = Callable[[Tree], "list[Finding]"]


class Plant:
    """Writes files below a temporary root and asks one rule what it finds there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name, text in CLEAN.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def module(self, name: str, body: str) -> None:
        """A module of ours with licence and docstring, its code starting in line 3; missing packages are made."""
        path = Path("src/firecurtain") / name
        for folder in path.parents[:-2]:
            if not (self.root / folder / "__init__.py").exists():
                self.write(f"{folder}/__init__.py", HEAD)
        self.write(str(path), HEAD + body)

    def ask(self, rule: Rule) -> list[str]:
        return [str(finding) for finding in rule(read_tree(self.root))]

    def run(self) -> subprocess.CompletedProcess[str]:
        """`python -m tools.tidy` on this tree, as `make check` runs it on ours."""
        command = [sys.executable, "-m", "tools.tidy", str(self.root)]
        return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)


REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    """A clean tree; every test adds one fault."""
    return Plant(tmp_path)
