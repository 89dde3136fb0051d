# SPDX-License-Identifier: Apache-2.0
"""The lock names versions and hashes and nothing else, agrees with pyproject.toml, and is explained."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

LOCKS = ("all", "dev")


def read_pins(root: Path, lock: str) -> dict[str, frozenset[str]]:
    """`name==version` to the hashes of its files, on every platform."""
    blocks = re.split(r"\n(?=[a-z])", (root / "requirements" / f"{lock}.txt").read_text())
    return {block.split()[0]: frozenset(re.findall(r"--hash=sha256:(\w{64})", block)) for block in blocks}


def read_wishes(root: Path, name: str) -> list[str]:
    """The lines of an .in file that name a package."""
    lines = (root / "requirements" / f"{name}.in").read_text().splitlines()
    return sorted(line for line in lines if re.match(r"\w", line))


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_versions_and_hashes_and_names_no_place(root: Path, lock: str) -> None:
    allowed = re.compile(r"[a-z0-9-]+==[\w.]+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?|# [^/]*|")
    strange = [
        line for line in (root / f"requirements/{lock}.txt").read_text().splitlines() if not allowed.fullmatch(line)
    ]
    assert strange == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_by_the_hashes_of_more_than_one_file(root: Path, lock: str) -> None:
    pins = read_pins(root, lock)
    assert len(pins) > 15
    # A wheel and a source archive at least: one file alone would be a lock for the machine it was made on.
    assert [name for name, hashes in pins.items() if len(hashes) < 2] == []


def test_the_development_lock_holds_the_runtime_lock(root: Path) -> None:
    runtime, development = read_pins(root, "all"), read_pins(root, "dev")
    assert {name: development.get(name) for name in runtime} == runtime


def test_the_runtime_lock_is_made_from_what_pyproject_declares(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    declared = {wish for wishes in extras.values() for wish in wishes if not wish.startswith("firecurtain[")}
    assert read_wishes(root, "all") == sorted(declared | set(project["build-system"]["requires"]))


@pytest.mark.parametrize("name", LOCKS)
def test_every_dependency_has_its_line_of_explanation(root: Path, name: str) -> None:
    page = (root / "docs" / "DEPENDENCIES.md").read_text()
    packages = [re.split(r"[<>=]", wish)[0] for wish in read_wishes(root, name)]
    assert [package for package in packages if f"| {package} |" not in page] == []


def test_every_locked_package_is_in_the_list_of_licences(root: Path) -> None:
    page = (root / "docs" / "DEPENDENCIES.md").read_text()
    packages = [pin.split("==")[0] for pin in read_pins(root, "dev")]
    assert [package for package in packages if not re.search(rf"\b{re.escape(package)}\b", page)] == []
