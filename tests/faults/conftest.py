# SPDX-License-Identifier: Apache-2.0
"""Fleets for the faults: one for each file that lives through all of its list, and fresh ones for what ends a fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.operated import Fleet, Started
from support.raw_nats import RawClient


@dataclass
class Living:
    """A fleet whose service acts; a test that replaces a process puts the new one here."""

    fleet: Fleet
    up: Started
    agent: Started


@pytest.fixture(scope="module")
def living(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Living]:
    """One fleet for a file: each test leaves it acting again, and says so as its last step; the last may end it.

    Not one for all files: which file comes first is nobody's promise when they run two at a time.
    """
    fleet = Fleet(tmp_path_factory.mktemp("living") / "fleet")
    try:
        yield Living(fleet, *fleet.begin())
    finally:
        fleet.end()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """A directory in which no fleet was made yet."""
    fleet = Fleet(tmp_path / "fleet")
    try:
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def stolen(living: Living) -> Iterator[RawClient]:
    """The control plane's own broker password, without any key."""
    password = json.loads((living.fleet.directory / "state" / "passwords.json").read_text())["_control"]
    with RawClient(living.fleet.read_run()["url"], "_control", password) as client:
        yield client
