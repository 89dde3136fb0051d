# SPDX-License-Identifier: Apache-2.0
"""The list of commands. Each stands in a module of its own topic; this one only puts them in order."""

from __future__ import annotations

import typer

from firecurtain.cli import fleet, ledger, nodes, rehearse, releases, stopping

app = typer.Typer(
    name="firecurtain",
    help="A process may act only while it holds a fresh permit for exactly the code and flags it runs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
fleet.register(app)
nodes.register(app)
releases.register(app)
stopping.register(app)
rehearse.register(app)
ledger.register(app)


def main(arguments: list[str]) -> int:
    """Run one command; returns its exit code. A wrong command line is 2."""
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0
