# SPDX-License-Identifier: Apache-2.0
"""A small service to seal, and a store beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

FLAG = "fc1-0123456789AB"


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """Four files in two directories: one executable, one that names a flag token."""
    root = tmp_path / "service"
    (root / "lib").mkdir(parents=True)
    (root / "router.py").write_text(f"FLAG = '{FLAG}'\n")
    (root / "lib" / "orders.py").write_text("def route(): ...\n")
    (root / "lib" / "empty.txt").write_text("")
    (root / "start.sh").write_text("#!/bin/sh\n")
    (root / "start.sh").chmod(0o750)
    return root


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"
