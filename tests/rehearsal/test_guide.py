# SPDX-License-Identifier: Apache-2.0
"""The README's ten minutes. Goal: what a newcomer types works, and what the page shows is what they see. Method: every
`$` line typed into a real shell in order; each shown line must come, with numbers and ids of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Wait = Callable[[Callable[[], bool], float], None]

# What a person would wait for before typing on: (how the command begins, what the screen then says, how often).
PATIENCE = (
    ("firecurtain agent", "paying refunds", 1),
    ("firecurtain halt", "NOT paying: stop-in-force", 1),
    ('firecurtain resume $stop --reason "it was a report" --key approver-1 --key', "paying refunds", 2),
    ("kill -9 %1", "NOT paying: expired", 2),
)
STEP_S = 30


class Shell:
    """A shell whose screen is a file. `type` returns when the command has ended or went to the background."""

    def __init__(self, root: Path, screen: Path, wait_until: Wait) -> None:
        environment = {"PATH": os.environ["PATH"], "TMPDIR": str(screen.parent), "LANG": "C.UTF-8"}
        self._screen, self._wait_until, self._typed = screen, wait_until, 0
        with screen.open("wb") as out:
            argv = ["bash", "-m"]  # job control: %1 and %2 are what the page says
            self.process = subprocess.Popen(
                argv, cwd=root, stdin=subprocess.PIPE, stdout=out, stderr=out, env=environment, start_new_session=True
            )

    def read(self) -> str:
        return self._screen.read_text()

    def type(self, line: str) -> int:
        """Type a line; returns its exit code."""
        assert self.process.stdin
        self._typed += 1
        self.process.stdin.write(f"{line}\necho typed-{self._typed} $?\n".encode())
        self.process.stdin.flush()
        pattern = re.compile(rf"^typed-{self._typed} (\d+)$", re.MULTILINE)
        self._wait_until(lambda: pattern.search(self.read()) is not None, STEP_S)
        found = pattern.search(self.read())
        assert found
        return int(found[1])

    def end(self) -> None:
        self.process.stdin.write(b"kill $(jobs -p); wait\n")
        self.process.stdin.close()
        self.process.wait(STEP_S)


@pytest.fixture
def shell(root: Path, tmp_path: Path, wait_until: Wait) -> Iterator[Shell]:
    opened = Shell(root, tmp_path / "screen", wait_until)
    yield opened
    opened.end()


def read_guide(root: Path) -> list[str]:
    """The lines of every console block below "Ten minutes"."""
    section = (root / "README.md").read_text().split("\n## Ten minutes\n")[1].split("\n## ")[0]
    return [line for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL) for line in block.splitlines()]


def blur(line: str) -> str:
    """A line without what differs from run to run."""
    return re.sub(r"\b[0-9a-f]{12,64}\b|\d+(?:\.\d+)?", "#", line)


def test_what_the_guide_shows_is_what_a_newcomer_sees(root: Path, shell: Shell, wait_until: Wait):
    """The interpreter that runs this test stands in for the one that `make` would set up, a page of its own for the
    page that everybody's fleet of this name would share."""
    lines, codes = read_guide(root), []
    for line in lines:
        if not line.startswith("$ "):
            continue
        command = line.removeprefix("$ ").replace("$PWD/.venv/bin", str(Path(sys.executable).parent))
        command = command.replace("--out host-1", "--out host-1 --runtime-dir run")
        codes.append((shell.type(command), command))
        if command.startswith("firecurtain up"):
            shell.type("until [ -e state/run.json ]; do read -t 0.05 <> <(:); done")
        for beginning, words, times in PATIENCE:
            if command.startswith(beginning):
                wait_until(lambda words=words, times=times: shell.read().count(words) >= times, STEP_S)
    assert [command for code, command in codes if code] == [
        'firecurtain resume $stop --reason "it was a report" --key approver-1'
    ]
    seen = [blur(line) for line in shell.read().splitlines()]
    shown = [line for line in lines if not line.startswith("$ ")]
    assert len(shown) > 20
    missing = [line for line in shown if not any(word.startswith(blur(line.rstrip("…").rstrip())) for word in seen)]
    assert missing == [], shell.read()
