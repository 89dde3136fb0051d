# SPDX-License-Identifier: Apache-2.0
"""`python -m firecurtain.rehearsal.knight`: the rehearsal without the `firecurtain` command."""

from __future__ import annotations

import argparse
import sys

from firecurtain.rehearsal.knight.arms import ARMS, DEFAULT_ARMS
from firecurtain.rehearsal.knight.command import rehearse
from firecurtain.rehearsal.knight.market import MORNING_S
from firecurtain.rehearsal.knight.runner import Options
from firecurtain.terms import ConfigError


def main() -> int:
    """Read the command line and rehearse."""
    parser = argparse.ArgumentParser(prog="firecurtain rehearse knight")
    parser.add_argument("--arm", action="append", choices=ARMS, help="run this arm; may be given several times")
    parser.add_argument("--all-arms", action="store_true", help="run every arm")
    parser.add_argument("--seed", type=int, default=1, help="order of the parents; totals stay the same")
    parser.add_argument("--straggler", type=int, default=8, help="the server that misses the update, 1 to 8")
    parser.add_argument("--window", type=float, default=10.0, help="seconds of real time per arm, at least 5")
    parser.add_argument("--full", action="store_true", help="all 45 minutes per arm")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    words = parser.parse_args()
    arms = tuple(ARMS) if words.all_arms else tuple(words.arm or DEFAULT_ARMS)
    try:
        options = Options(arms, words.seed, words.straggler, MORNING_S if words.full else words.window)
    except ConfigError as error:
        sys.stderr.write(f"{error.code}: {error}\n")
        return 2
    return rehearse(options, as_json=words.json)


if __name__ == "__main__":
    sys.exit(main())
