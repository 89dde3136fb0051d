# SPDX-License-Identifier: Apache-2.0
"""The `firecurtain` command: where the rooms are put together.

General layout: `main` picks the way; `halt` is a way of its own, because it has 300 ms from the enter key to the cast
and imports nothing it can do without; `app` lists every other command; `config` reads firecurtain.toml, `outcome`
prints results and refusals, `operator` speaks to the control plane. Nothing here decides anything.
"""

from __future__ import annotations

import sys


def main() -> None:
    """The console script. Exit codes: 0 done, 1 refused, 2 could not decide (a wrong command line included)."""
    arguments = sys.argv[1:]
    # Imported here, not above: `halt` must not pay for the libraries of the other commands.
    if arguments[:1] == ["halt"]:
        from firecurtain.cli.halt import main as run_halt

        raise SystemExit(run_halt(arguments[1:]))
    from firecurtain.cli.app import main as run_app

    raise SystemExit(run_app(arguments))
