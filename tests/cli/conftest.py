# SPDX-License-Identifier: Apache-2.0
"""The command as people run it: real processes, a fleet made by `init`, a control plane started by `up`."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import pytest

COMMAND = Path(sys.executable).with_name("firecurtain")
FLEET = "knight"
ANSWER_S = 60.0

ARTIFACT = """import time
while True:
    time.sleep(1)  # a service that only lives
"""
RELEASE = """fleet = "knight"
service = "smars"
version = {version}
entrypoint = ["main.py"]
tokens = []
on_straggler = "hold"
min_nodes = 1
limits.order = {{ effects_per_cause = 3, gross_usd = 2000000 }}
stages = [{{ name = "all", nodes = "*" }}]
"""


@dataclass
class Site:
    """One fleet in one directory, and the processes started for it."""

    directory: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [COMMAND, *words], cwd=cwd or self.directory, capture_output=True, text=True, timeout=ANSWER_S, check=False
        )

    def ask(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        """Run one command with --json and return its object."""
        done = self.run(*words, "--json")
        assert done.returncode == code, f"{words} exited {done.returncode}: {done.stderr}"
        answer = json.loads(done.stdout)
        assert isinstance(answer, dict)
        return answer

    def start(self, *words: str | Path, until: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start a long-running command and return once its log says `until`. `prefix` is put before the command."""
        process = subprocess.Popen(
            [*prefix, COMMAND, *words], cwd=self.directory, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
        )
        self.processes.append(process)
        assert process.stderr is not None
        read_until(process.stderr, until)
        return process

    def up(self) -> subprocess.Popen[str]:
        return self.start("up", until="control plane is up")

    def read_run(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "state" / "run.json").read_text()))

    def release(self, version: int = 1) -> str:
        """Seal an artifact and have it released with two approvals."""
        source = self.directory / f"artifact-{version}"
        source.mkdir()
        (source / "main.py").write_text(f"# version {version}\n{ARTIFACT}")
        (self.directory / "release.toml").write_text(RELEASE.format(version=version))
        digest = self.ask("seal", source, "--store", "store")["digest"]
        release = self.ask("release", "propose", "release.toml", "--artifact", digest, "--store", "store")["release"]
        self.ask("release", "approve", release, "--key", "approver-1", "--key", "approver-2")
        return str(release)

    def enrol(self, name: str) -> Path:
        """Enrol a node of service smars; returns its agent.toml."""
        words = ("--service", "smars", "--out", f"nodes/{name}", "--store", "store", "--runtime-dir", f"{name}.run")
        return self.directory / self.ask("node", "enrol", name, *words)["agent_config"]

    def end(self) -> None:
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(timeout=20)
            finally:
                process.kill()
                process.wait()
                if process.stderr is not None:
                    process.stderr.close()


def read_until(stream: IO[str], text: str) -> str:
    """The first line of a log that holds `text`; the stream's end is a failure that shows what was there instead."""
    lines = []
    for line in stream:
        if text in line:
            return line
        lines.append(line)
    raise AssertionError(f"no {text!r} in: {''.join(lines)}")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A fleet as `init` leaves it."""
    site = Site(tmp_path / "fleet")
    assert site.run("init", site.directory, "--fleet", FLEET, cwd=tmp_path).returncode == 0
    try:
        yield site
    finally:
        site.end()


@pytest.fixture
def log_line() -> Callable[[subprocess.Popen[str], str], str]:
    """Wait for a line in a started command's log."""

    def wait(process: subprocess.Popen[str], text: str) -> str:
        assert process.stderr is not None
        return read_until(process.stderr, text)

    return wait
