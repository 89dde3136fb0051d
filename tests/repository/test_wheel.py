# SPDX-License-Identifier: Apache-2.0
"""The base wheel carries the guard with no dependency at all: it installs into an empty environment and works there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and give its output; its errors are the failure's text."""
    finished = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, offline, so that the tree itself stays clean."""
    copy = tmp_path_factory.mktemp("tree")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)
    shutil.copytree(root / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "--wheel-dir", copy / "dist", ".", cwd=copy)
    (built,) = (copy / "dist").glob("firecurtain-*.whl")
    return built


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment that holds this wheel and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel]
    run(*install, cwd=folder)
    return python


def test_the_wheel_carries_types_and_licence_and_no_tools(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "firecurtain/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"firecurtain"}


def test_the_base_needs_no_other_package(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    needs = [line for line in archive.read(metadata).decode().splitlines() if line.startswith("Requires-Dist:")]
    assert needs
    assert [line for line in needs if "extra ==" not in line] == []


ALONE = """
import importlib.metadata, firecurtain
print(*[found.name for found in importlib.metadata.distributions()])
print(firecurtain.__file__)
refunds = firecurtain.attach("payouts").action("refund")
try:
    refunds.acquire(cause="request-1", usd=1)
except firecurtain.Denied as denied:
    print(denied.reason)
"""


def test_the_guard_works_in_an_empty_environment_and_without_an_agent_it_denies(empty: Path) -> None:
    distributions, place, reason = run(empty, "-I", "-c", ALONE, cwd=empty.parent).splitlines()
    assert distributions == "firecurtain"
    assert place.startswith(str(empty.parents[1]))
    assert reason == "no-agent"
