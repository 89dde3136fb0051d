# SPDX-License-Identifier: Apache-2.0
"""Lets a simulation say what it found while it passes: a bound that nobody ever sees is soon no bound."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Write one line to the real standard output."""

    def write(text: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{text}")
            sys.stdout.flush()

    return write
