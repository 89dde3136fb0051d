# SPDX-License-Identifier: Apache-2.0
"""The new artifact's `start`: the router with the retail liquidity code, as seven of eight servers received it."""

from __future__ import annotations

from .retail_liquidity import RetailLiquidity
from .router import run_router


def main(argv: list[str]) -> None:
    """Route with the new code."""
    run_router(argv, RetailLiquidity)
