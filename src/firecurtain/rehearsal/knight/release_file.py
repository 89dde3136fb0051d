# SPDX-License-Identifier: Apache-2.0
"""The release of one routing code as its author writes it down for `firecurtain release propose`. Pure.

The limits are those of an ordinary day; nothing in them knows what happened on 1 August.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from firecurtain.rehearsal.knight.artifacts.smars.power_peg import POWER_PEG
from firecurtain.rehearsal.knight.artifacts.smars.retail_liquidity import RETAIL_LIQUIDITY
from firecurtain.rehearsal.knight.assemble import Code
from firecurtain.rehearsal.knight.market import NODES

FLEET, SERVICE, ACTION = "knight", "smars", "send-order"
EFFECTS_PER_CAUSE = 3  # an ordinary day's: 300 shares leave as three children of 100
GROSS_USD = 2_000_000  # the limit that was linked to nothing (SEC Release 34-70694, paragraphs 23 to 25)
TOKENS: Mapping[Code, str] = {Code.OLD: POWER_PEG, Code.NEW: RETAIL_LIQUIDITY}


def render_release(code: Code, *, version: int, arms: bool, on_straggler: str) -> str:
    """The TOML text. `arms`: the code's flag is to be armed once every server of the stage attests it."""
    token = json.dumps(TOKENS[code])
    return f"""\
fleet = "{FLEET}"
service = "{SERVICE}"
version = {version}
entrypoint = ["main.py"]
tokens = [{token}]
arms = [{token if arms else ""}]
on_straggler = "{on_straggler}"
min_nodes = {NODES - 1}
[limits.{ACTION}]
effects_per_cause = {EFFECTS_PER_CAUSE}
gross_usd = {GROSS_USD}
[[stages]]
name = "all"
nodes = "*"
"""
