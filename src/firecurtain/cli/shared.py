# SPDX-License-Identifier: Apache-2.0
"""What every command of the list shares: its two options, and how errors become sentences and exit codes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, ParamSpec, TypeVar

import typer

from firecurtain.cli.outcome import fail
from firecurtain.terms import FirecurtainError

ConfigOption = Annotated[Path | None, typer.Option("--config", help="firecurtain.toml to use", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object")]
JsonErrorOption = Annotated[
    bool, typer.Option("--json", help="print an error as one JSON object; the log on standard error is JSON anyway")
]

P = ParamSpec("P")
T = TypeVar("T")


class SystemFaultError(FirecurtainError):
    """The operating system refused: a file, a permission, a full disk."""

    code = "system"


def guarded(command: Callable[P, None]) -> Callable[P, None]:
    """Turn every error of the world into its sentence and exit code; `as_json` is the command's --json."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except FirecurtainError as error:
            raise typer.Exit(fail(error, bool(kwargs.get("as_json")))) from error
        except OSError as error:
            fault = SystemFaultError(f"{error}. Look at the path and its permissions, then give the command again.")
            raise typer.Exit(fail(fault, bool(kwargs.get("as_json")))) from error

    return run


def wait(work: Coroutine[Any, Any, T]) -> T:
    """Run one coroutine to its end."""
    return asyncio.run(work)
