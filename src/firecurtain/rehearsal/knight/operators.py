# SPDX-License-Identifier: Apache-2.0
"""The people of a rehearsal: they type `firecurtain` commands in the fleet's directory and read what comes back.

They use nothing that a user does not have. A refusal is a result; anything else that goes wrong ends the rehearsal.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from firecurtain.rehearsal.knight.ledgers import RehearsalError
from firecurtain.rehearsal.knight.processes import Processes, read_interpreter

COMMAND_TIMEOUT_S = 30.0  # chosen: ten times what the slowest command takes beside eight routers on two cores
OK, REFUSED = 0, 1


@dataclass(frozen=True, slots=True)
class Reply:
    """One command's JSON object, and whether it was refused."""

    words: dict[str, object]
    is_refused: bool


class Operators:
    """Runs commands in one directory; each is a process of the arm, so none outlives it."""

    def __init__(self, directory: Path, processes: Processes) -> None:
        self._directory = directory
        self._processes = processes
        self._commands = 0

    def run(self, *words: str) -> dict[str, object]:
        """Run one command that must succeed. Raises: RehearsalError: it did not."""
        return self.run_together([words])[0]

    def run_together(self, commands: Iterable[Sequence[str]]) -> list[dict[str, object]]:
        """Run commands side by side that must all succeed. Raises: RehearsalError."""
        started = [(words, self._start(words)) for words in commands]
        replies = [(words, self._finish(words, name)) for words, name in started]
        for words, reply in replies:
            if reply.is_refused:
                raise RehearsalError(f"`firecurtain {' '.join(words)}` was refused: {reply.words.get('text')}")
        return [reply.words for _, reply in replies]

    def ask(self, *words: str) -> Reply:
        """Run one command that may be refused. Raises: RehearsalError: it was neither done nor refused."""
        return self._finish(words, self._start(words))

    def _start(self, words: Sequence[str]) -> str:
        self._commands += 1
        name = f"command-{self._commands}"
        argv = [*compute_argv(*words), "--json"]
        self._processes.start(name, argv, directory=self._directory, stdout=subprocess.PIPE)
        return name

    def _finish(self, words: Sequence[str], name: str) -> Reply:
        code, output = self._processes.collect(name, COMMAND_TIMEOUT_S)
        if code not in (OK, REFUSED):
            raise RehearsalError(
                f"`firecurtain {' '.join(words)}` ended with {code}: {self._processes.read_tail(name)}"
            )
        return Reply(json.loads(output), code == REFUSED)


def compute_argv(*words: str) -> list[str]:
    """How a `firecurtain` command is started from the interpreter that we run on."""
    return [read_interpreter(), "-m", "firecurtain.cli", *words]
