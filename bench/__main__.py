# SPDX-License-Identifier: Apache-2.0
"""`python -m bench [NAME ...]`: measure, show figures beside their targets, keep them in bench/results."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable

from bench import cut_off, guard, halt, kill
from bench.report import Found, format_table, write_result
from firecurtain.terms import FirecurtainError

MEASUREMENTS: dict[str, Callable[[], Found]] = {
    "guard": guard.measure,
    "halt": halt.measure,
    "kill": kill.measure,
    "cut-off": cut_off.measure,
}

ENDED = 143  # what a shell reports after SIGTERM


def main() -> int:
    """Measure what is named, or everything. Exit codes: 0 every target met, 1 one missed, 2 could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure on a quiet machine.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(MEASUREMENTS)}; all without a name")
    names = parser.parse_args().names or list(MEASUREMENTS)
    unknown = [name for name in names if name not in MEASUREMENTS]
    if unknown:
        parser.error(f"unknown {', '.join(unknown)}; there are {', '.join(MEASUREMENTS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))  # through every `finally`, as Ctrl-C goes
    is_met = True
    for name in names:
        try:
            found = MEASUREMENTS[name]()
        except FirecurtainError as error:
            print(f"{name} could not be measured: {error.code}: {error}", file=sys.stderr)
            return 2
        write_result(found)
        print(format_table(found), flush=True)
        is_met = is_met and found.is_met
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
