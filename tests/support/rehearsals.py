# SPDX-License-Identifier: Apache-2.0
"""A rehearsal run as the command that people type, and what /proc says of its processes."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/dev/shm")
COMMAND = str(Path(sys.executable).parent / "firecurtain")


class Rehearsal:
    """One `firecurtain rehearse knight --json` with a temporary directory of its own."""

    def __init__(self, directory: Path, name: str, *words: str) -> None:
        self.temporary = directory / name
        self.temporary.mkdir()
        self._words, self._result = directory / f"{name}.err", directory / f"{name}.out"
        argv = [COMMAND, "rehearse", "knight", "--json", *words]
        environment = {"TMPDIR": str(self.temporary), "PATH": os.environ.get("PATH", os.defpath)}
        with self._words.open("wb") as err, self._result.open("wb") as out:
            self.process = subprocess.Popen(argv, stdout=out, stderr=err, env=environment)

    def read_words(self) -> str:
        """What it told a person so far."""
        return self._words.read_text()

    def read_result(self) -> str:
        """What it told a program."""
        return self._result.read_text()

    def read_pids(self) -> dict[str, int]:
        """Its processes by role, once the market is open."""
        return {role: int(pid) for role, pid in re.findall(r"([a-z]+(?:-\d)?) (\d+)(?:,|$)", self.read_words(), re.M)}

    def find_processes(self) -> list[int]:
        """Every living process that carries our temporary directory in its environment, ourselves included."""
        mark = f"TMPDIR={self.temporary}\0".encode()
        return [pid for pid in list_processes() if mark in read_proc(pid, "environ") and is_running(pid)]

    def find_directories(self) -> list[Path]:
        """Its directory on disk and its directory in memory, as long as both are there."""
        [place] = self.temporary.glob("firecurtain-knight-*")
        return [place, *MEMORY.glob(f"{place.name}-*")]

    def clean_up(self) -> None:
        """Kill it, and remove what a killed rehearsal cannot."""
        self.process.kill()
        self.process.wait()
        for place in self.temporary.glob("firecurtain-knight-*"):
            for memory in MEMORY.glob(f"{place.name}-*"):
                shutil.rmtree(memory)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait for the exit code."""
        self.process.send_signal(number)
        return self.process.wait(15)


def is_running(pid: int) -> bool:
    """A zombie has ended; whoever adopted it has just not asked yet."""
    state = read_proc(pid, "stat").rpartition(b")")[2].split()[:1]
    return bool(state) and state[0] not in (b"Z", b"X")


def read_proc(pid: int, name: str) -> bytes:
    """A file of /proc, empty when the process is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def list_processes() -> Iterator[int]:
    """Every process id there is."""
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
