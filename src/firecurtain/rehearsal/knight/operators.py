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
from firecurtain.rehearsal.knight.processes import read_interpreter

COMMAND_TIMEOUT_S = 30.0  # chosen: ten times what the slowest command takes beside eight routers on two cores
REFUSED = 1


@dataclass(frozen=True, slots=True)
class Reply:
    """One command's JSON object, and whether it was refused."""

    words: dict[str, object]
    is_refused: bool


class Operators:
    """Runs commands below one directory. A refusal is kept, with the place where the ledger holds it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.refusals: list[str] = []

    def run(self, *words: str) -> dict[str, object]:
        """Run one command that must succeed. Raises: RehearsalError: it did not."""
        return self.run_together([words])[0]

    def run_together(self, commands: Iterable[Sequence[str]]) -> list[dict[str, object]]:
        """Run commands side by side that must all succeed. Raises: RehearsalError."""
        started = [(words, self._start(words)) for words in commands]
        replies = [(words, _finish(words, process)) for words, process in started]
        for words, reply in replies:
            if reply.is_refused:
                raise RehearsalError(f"`firecurtain {' '.join(words)}` was refused: {reply.words.get('text')}")
        return [reply.words for _, reply in replies]

    def ask(self, *words: str) -> Reply:
        """Run one command that may be refused, and keep the refusal."""
        reply = _finish(words, self._start(words))
        if reply.is_refused:
            seq, code, text = (reply.words.get(key) for key in ("ledger_seq", "code", "text"))
            self.refusals.append(f"ledger_seq {seq} {code}: {text}")
        return reply

    def _start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        argv = [*compute_argv(*words), "--json"]
        return subprocess.Popen(argv, cwd=self._directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def compute_argv(*words: str) -> list[str]:
    """How a `firecurtain` command is started from the interpreter that we run on."""
    return [read_interpreter(), "-B", "-m", "firecurtain.cli", *words]


def _finish(words: Sequence[str], process: subprocess.Popen[bytes]) -> Reply:
    try:
        output, trouble = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        raise RehearsalError(f"`firecurtain {' '.join(words)}` took over {COMMAND_TIMEOUT_S:g} s") from error
    if process.returncode not in (0, REFUSED):
        raise RehearsalError(f"`firecurtain {' '.join(words)}` ended with {process.returncode}: {trouble.decode()}")
    return Reply(json.loads(output), process.returncode == REFUSED)
