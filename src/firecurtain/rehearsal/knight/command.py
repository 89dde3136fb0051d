# SPDX-License-Identifier: Apache-2.0
"""`firecurtain rehearse knight` without its command line: run, show, and say how it ended.

Progress goes to standard error, the table or the JSON object to standard output, so that `--json` prints one object
and nothing else. Exit codes: 0 every claim held, 1 an arm broke its claim, 2 the rehearsal could not be carried out.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.live import Live
from rich.text import Text

from firecurtain.rehearsal.knight.report import format_json, format_pids, format_progress, print_result
from firecurtain.rehearsal.knight.runner import Options, Progress, run_rehearsal
from firecurtain.terms import FirecurtainError

INTERRUPTED = 130  # what a shell reports after Ctrl-C
FILE_WIDTH = 100  # characters of a line where no terminal says how many it has


def rehearse(options: Options, *, as_json: bool) -> int:
    """Run the rehearsal for a person or a program. Returns the exit code; call it from the main thread."""
    words = Console(stderr=True)
    try:
        with _interruptible(), _show_progress(words, options) as observe:
            result = run_rehearsal(options, observe)
    except (FirecurtainError, OSError) as error:
        code = error.code if isinstance(error, FirecurtainError) else "system"
        words.print(f"{code}: {error}", style="bold red", highlight=False, soft_wrap=True)
        return 2
    except KeyboardInterrupt:
        words.print("interrupted; every process of the rehearsal is ended")
        return INTERRUPTED
    if as_json:
        sys.stdout.write(format_json(result) + "\n")
        for name, broken in result.broken.items():
            for claim in broken:
                words.print(f"BROKEN {name}: {claim}", style="bold red", highlight=False, soft_wrap=True)
    else:
        console = Console()
        print_result(result, console if console.is_terminal else Console(width=FILE_WIDTH))
    return 0 if result.holds else 1


@contextlib.contextmanager
def _show_progress(console: Console, options: Options) -> Iterator[Callable[[Progress], None]]:
    """What runs, in a living place on a terminal; elsewhere one line for each arm, with its process ids."""
    shown: set[str] = set()
    # No refresh thread: children are started between two refreshes, and a fork beside a thread is asking for trouble.
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def observe(progress: Progress) -> None:
            if console.is_terminal:
                live.update(Text(format_progress(progress, options)), refresh=True)
            elif progress.pids and progress.arm not in shown:
                shown.add(progress.arm)
                console.print(format_pids(progress), highlight=False, soft_wrap=True)

        yield observe


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a closing terminal, end a rehearsal as Ctrl-C does: through every `finally`."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    asked = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in asked}  # nohup has its way
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
