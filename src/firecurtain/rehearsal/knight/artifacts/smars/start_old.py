# SPDX-License-Identifier: Apache-2.0
"""The old artifact's `start`: the router with Power Peg, as one of eight servers kept it."""

from __future__ import annotations

from .power_peg import PowerPeg
from .router import run_router


def main(argv: list[str]) -> None:
    """Route with the old code."""
    run_router(argv, PowerPeg)
