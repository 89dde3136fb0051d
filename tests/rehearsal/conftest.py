# SPDX-License-Identifier: Apache-2.0
"""What the rehearsal's process tests share."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

Wait = Callable[[Callable[[], bool], float], None]


@pytest.fixture
def wait_until() -> Wait:
    """Wait for a condition with a bound, and fail when it does not come true."""

    def wait(is_true: Callable[[], bool], limit_s: float) -> None:
        give_up_s = time.monotonic() + limit_s
        while not is_true():
            assert time.monotonic() < give_up_s, f"not true within {limit_s} s"
            time.sleep(0.01)  # between two looks; the bound stands above

    return wait
