# SPDX-License-Identifier: Apache-2.0
"""However a rehearsal ends, no process of it stays. Goal: SIGKILL, SIGTERM and SIGINT leave nothing, and two rehearsals
at once do not meet. Method: the real command, its process ids read from what it prints, looked up in /proc."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Wait = Callable[[Callable[[], bool], float], None]

COMMAND = (sys.executable, "-m", "firecurtain.rehearsal.knight", "--arm", "none", "--window", "60", "--json")


class Rehearsal:
    """One rehearsal run as a command."""

    def __init__(self, directory: Path, name: str) -> None:
        self.words = directory / f"{name}.err"
        self.temporary = directory / name
        self.temporary.mkdir()
        with self.words.open("wb") as words:
            self.process = subprocess.Popen(
                COMMAND, stdout=subprocess.DEVNULL, stderr=words, env={"TMPDIR": str(self.temporary), "PATH": "/bin"}
            )

    def read_pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"(?:venue|feeder|router-\d) (\d+)", self.words.read_text())]

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(10)


def is_running(pid: int) -> bool:
    """A zombie has ended; whoever adopted it has just not asked yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def two(
    tmp_path: Path, wait_until: Callable[[Callable[[], bool], float], None]
) -> Iterator[tuple[Rehearsal, Rehearsal]]:
    """Two rehearsals in the middle of their windows."""
    both = Rehearsal(tmp_path, "a"), Rehearsal(tmp_path, "b")
    try:
        wait_until(lambda: all(len(rehearsal.read_pids()) == 10 for rehearsal in both), 30)
        yield both
    finally:
        for rehearsal in both:
            rehearsal.process.kill()
            rehearsal.process.wait()


def test_a_killed_rehearsal_leaves_no_process_and_its_neighbour_plays_on(
    two: tuple[Rehearsal, Rehearsal], wait_until: Wait
):
    killed, neighbour = two
    pids = killed.read_pids()
    assert not set(pids) & set(neighbour.read_pids())
    assert all(is_running(pid) for pid in pids)
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not any(is_running(pid) for pid in pids), 10)
    assert all(is_running(pid) for pid in neighbour.read_pids())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_rehearsal_leaves_no_process_and_no_file(
    two: tuple[Rehearsal, Rehearsal], number: signal.Signals
):
    rehearsal, _ = two
    pids = rehearsal.read_pids()
    assert rehearsal.end(number) == 130
    assert not any(is_running(pid) for pid in pids)
    assert list(rehearsal.temporary.iterdir()) == []
    assert "every process of the rehearsal is ended" in rehearsal.words.read_text()
