# SPDX-License-Identifier: Apache-2.0
"""A rig for each test: one agent over the in-memory bus, its service a real process, ended whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.agent_rig import Rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(tmp_path)
    try:
        yield made
    finally:
        await made.close()
