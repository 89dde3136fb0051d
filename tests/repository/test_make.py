# SPDX-License-Identifier: Apache-2.0
"""The verbs a person types: they explain themselves, set themselves up, and continuous integration types the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import set_up

VERBS = ("rehearse", "test", "check", "bench", "sim")


def run_make(root: Path, *arguments: str) -> str:
    """Run make as a person would, not as a child of the make that runs these tests."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_bare_make_prints_its_verbs_with_one_line_each(root: Path) -> None:
    lines = run_make(root).splitlines()
    assert [line.split()[1] for line in lines if line.split()[1] != "lock"] == list(VERBS)
    assert all(re.fullmatch(r"make \w+( SEED=1)? +\w.{10,}", line) for line in lines)


def test_make_test_checks_first_and_leaves_out_what_was_checked(root: Path) -> None:
    commands = run_make(root, "--dry-run", "test")
    check, _, rest = commands.rpartition("-m pytest -q -n 2 --dist loadfile tests ")
    assert "tools/set_up.py dev" in check
    assert "-m pytest -q --doctest-modules src tools bench" in check
    assert "tests/repository" in check
    assert "--ignore=tests/repository" in rest


def test_continuous_integration_runs_the_test_command_of_the_readme(root: Path) -> None:
    script = (root / ".ci" / "run").read_text().splitlines()
    assert os.access(root / ".ci" / "run", os.X_OK)
    (*preparation, command) = [line for line in script if line and not line.startswith("#")]
    assert preparation == ["set -euo pipefail", 'cd "$(dirname "$0")/.."']
    in_readme = re.findall(r"^\s*(make test\b.*?)\s*(?:#.*)?$", (root / "README.md").read_text(), flags=re.MULTILINE)
    assert in_readme
    assert set(in_readme) == {command}


def test_an_old_interpreter_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 14))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer; .* make PYTHON="):
        set_up.main()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A tree of its own with a recorded `run`: what set-up would execute, without executing it."""
    (tmp_path / "requirements").mkdir()
    (tmp_path / ".venv").mkdir()
    (tmp_path / "pyproject.toml").write_text("")
    for lock in set_up.LOCKS:
        (tmp_path / "requirements" / f"{lock}.txt").write_text(f"{lock}\n")
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(set_up, "ROOT", tmp_path)
    monkeypatch.setattr(set_up, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(set_up, "run", lambda *command: commands.append(command))
    return commands


def test_set_up_runs_once_and_again_only_for_another_lock(tree: list[tuple[str, ...]]) -> None:
    set_up.set_up("dev")
    assert ["venv" in tree[0], "--require-hashes" in tree[1], "--no-deps" in tree[2]] == [True, True, True]
    set_up.set_up("dev")
    assert len(tree) == 3
    (set_up.ROOT / "requirements" / "dev.txt").write_text("another\n")
    set_up.set_up("dev")
    assert len(tree) == 5  # installed anew into the environment that is there
    assert "venv" not in tree[3]


def test_an_interrupted_set_up_leaves_no_stamp_and_begins_anew(
    tree: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = set_up.run

    def interrupt(*command: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(set_up, "run", interrupt)
    with pytest.raises(KeyboardInterrupt):
        set_up.set_up("all")
    assert list(set_up.VENV.iterdir()) == []
    monkeypatch.setattr(set_up, "run", record)
    set_up.set_up("all")
    assert "--clear" in tree[0]


def test_an_environment_copied_from_another_folder_is_not_trusted(tree: list[tuple[str, ...]]) -> None:
    stamp = set_up.VENV / "dev.stamp"
    stamp.write_text(set_up.compute_stamp("dev").replace(str(set_up.VENV), "elsewhere"))
    set_up.set_up("dev")
    assert "--clear" in tree[0]


def test_a_second_set_up_waits_for_the_first(tree: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []
    monkeypatch.setattr(set_up.fcntl, "flock", lambda _, how: held.append(how))
    monkeypatch.setattr(sys, "argv", ["set_up.py", "all"])
    set_up.main()
    assert held == [set_up.fcntl.LOCK_EX]
    assert tree
