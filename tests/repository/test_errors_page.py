# SPDX-License-Identifier: Apache-2.0
"""docs/ERRORS.md is what the error tree says, and one code means one thing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from firecurtain.terms import ConfigError
from tools import errors


def test_the_page_of_errors_is_not_stale(root: Path) -> None:
    # A process of its own: other tests may define errors below the same root.
    command = [sys.executable, "-m", "tools.errors", "--check"]
    finished = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_a_page_that_misses_an_error_is_called_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "ERRORS.md"
    monkeypatch.setattr(errors, "PAGE", page)
    monkeypatch.setattr(errors, "compute_page", lambda: "one\ntwo\n")
    monkeypatch.setattr(sys, "argv", ["errors"])
    errors.main()
    assert page.read_text() == "one\ntwo\n"
    monkeypatch.setattr(sys, "argv", ["errors", "--check"])
    errors.main()
    page.write_text("one\n")
    with pytest.raises(SystemExit, match="stale"):
        errors.main()


def test_two_errors_with_one_code_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "import_everything", lambda: None)
    monkeypatch.setattr(errors, "find_errors", lambda _: iter([ConfigError, type("Copy", (ConfigError,), {})]))
    with pytest.raises(SystemExit, match="code config"):
        errors.compute_page()
