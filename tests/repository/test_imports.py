# SPDX-License-Identifier: Apache-2.0
"""What an application loads with the guard, and what a person sees who breaks an import on purpose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HEAVY = ("asyncio", "ssl", "socket", "_socket", "logging", "threading", "_thread_pool", "concurrent", "selectors")


def test_the_guard_loads_no_threads_no_sockets_and_no_logging(root: Path) -> None:
    # -S: without the site packages, so that nothing they load hides or adds a module, and nothing but ours is there.
    script = (
        "import sys; before = set(sys.modules); import firecurtain.guard;"
        f" print(sorted(set({HEAVY!r}) & (set(sys.modules) - before)))"
    )
    command = [sys.executable, "-S", "-c", script]
    loaded = subprocess.run(
        command, env={"PYTHONPATH": str(root / "src")}, capture_output=True, text=True, timeout=30, check=False
    )
    assert (loaded.returncode, loaded.stdout, loaded.stderr) == (0, "[]\n", "")


def test_an_import_broken_on_purpose_is_named_with_its_line(root: Path, tmp_path: Path) -> None:
    shutil.copy(root / "pyproject.toml", tmp_path)
    shutil.copytree(root / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    terms = tmp_path / "src" / "firecurtain" / "terms.py"
    terms.write_text(f"{terms.read_text()}from firecurtain.wire import messages\n")
    line = len(terms.read_text().splitlines())
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "NO_COLOR": "1"}
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    assert f"firecurtain.terms -> firecurtain.wire.messages (l.{line})" in " ".join(finished.stdout.split())
