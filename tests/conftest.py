# SPDX-License-Identifier: Apache-2.0
"""Options and fixtures that every test folder shares. Helpers with more to them live in tests/support/."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """One integer replays a whole simulated day; a second one says how many days. Stories are rewritten on purpose."""
    parser.addoption("--schedules", type=int, default=2000, help="schedules the simulation drives (make sim: 20000)")
    parser.addoption("--seed", type=int, default=1, help="first seed of the simulation; it prints the one that fails")
    parser.addoption("--rewrite", action="store_true", help="write golden stories anew; read the diff, line by line")


@pytest.fixture(scope="session")
def schedules(request: pytest.FixtureRequest) -> int:
    """How many seeded schedules a simulation test drives."""
    count = request.config.getoption("--schedules")
    assert isinstance(count, int)
    return count


@pytest.fixture(scope="session")
def first_seed(request: pytest.FixtureRequest) -> int:
    """The seed of the first schedule; the next ones count up from it."""
    seed = request.config.getoption("--seed")
    assert isinstance(seed, int)
    return seed


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT
