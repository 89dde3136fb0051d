# SPDX-License-Identifier: Apache-2.0
"""The fleet that the bench measures, once for this folder: what is fast there is looked at for its order here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from bench.fleet import Fleet, running_fleet


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    """Control plane, broker, eight agents and their services, all acting."""
    with running_fleet() as fleet:
        yield fleet
