# SPDX-License-Identifier: Apache-2.0
"""What an application loads with the guard, and what a person sees who breaks an import on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("asyncio", "ssl", "socket", "_socket", "logging", "threading", "concurrent", "selectors", "subprocess")


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The shipped source and its configuration, to break."""
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return tmp_path


def read_heavy_modules(source: Path) -> list[str]:
    """Which heavy modules `import firecurtain.guard` adds, in a fresh interpreter without site packages (-S)."""
    script = (
        "import sys; before = set(sys.modules); import firecurtain.guard as guard; guard.attach;"
        f" print(*sorted(set({HEAVY!r}) & (set(sys.modules) - before)))"
    )
    command = [sys.executable, "-S", "-B", "-c", script]
    environment = {"PYTHONPATH": str(source)}
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    ).stdout.split()


def test_the_guard_loads_no_threads_no_sockets_and_no_logging(root: Path) -> None:
    assert read_heavy_modules(root / "src") == []


def test_a_guard_that_logs_would_be_seen(copy: Path) -> None:
    verdict = copy / "src" / "firecurtain" / "guard" / "verdict.py"
    verdict.write_text(f"{verdict.read_text()}import logging\n")
    assert {"logging", "threading"} <= set(read_heavy_modules(copy / "src"))
    finished = run_import_linter(copy)
    assert finished.returncode == 1
    assert "firecurtain.guard.verdict -> logging" in " ".join(finished.stdout.split())


def test_a_core_that_reads_a_clock_behind_three_imports_would_be_seen(copy: Path) -> None:
    messages = copy / "src" / "firecurtain" / "wire" / "messages.py"
    messages.write_text(f"{messages.read_text()}import time\n")
    finished = run_import_linter(copy)
    assert finished.returncode == 1
    assert "firecurtain.domain is not allowed to import time" in " ".join(finished.stdout.split())


def run_import_linter(tree: Path) -> subprocess.CompletedProcess[str]:
    """As `make check` runs it, on another tree."""
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "NO_COLOR": "1"}
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_an_import_broken_on_purpose_is_named_with_its_line(copy: Path) -> None:
    terms = copy / "src" / "firecurtain" / "terms.py"
    terms.write_text(f"{terms.read_text()}from firecurtain.wire import messages\n")
    line = len(terms.read_text().splitlines())
    finished = run_import_linter(copy)
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert f"firecurtain.terms -> firecurtain.wire.messages (l.{line})" in " ".join(finished.stdout.split())
