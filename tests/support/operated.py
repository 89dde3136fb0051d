# SPDX-License-Identifier: Apache-2.0
"""A fleet as an operator has it: one directory, `firecurtain` commands as processes, and a service that keeps acting.

The service asks its guard a hundred times a second and writes down what it heard, so a test reads from the outside when
an action was allowed last and why it no longer is. Nothing here reaches into a process.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("firecurtain")
FLEET, SERVICE, NODE = "knight", "smars", "host-1"
MAX_AGE_S = 1.5
BOUND_S = 30.0  # for a thing that happens within a second or two on an idle machine
POLL_S = 0.01

# Its last allowed action stands in `acted`, each change of the answer in `heard`.
ACTING_SERVICE = """import json, os, struct, sys, time
from pathlib import Path
import firecurtain

folder = Path(sys.argv[1])
acted = os.open(folder / "acted", os.O_RDWR | os.O_CREAT, 0o600)
order = firecurtain.attach("smars").action("order")
known, count = None, 0
with (folder / "heard").open("a", buffering=1) as heard:
    while True:
        try:
            order.acquire(cause=f"cause-{os.getpid()}-{count}", usd=0.01)
            answer, text = "allowed", ""
            count += 1
            os.pwrite(acted, struct.pack("<QQ", count, time.clock_gettime_ns(time.CLOCK_BOOTTIME)), 0)
        except firecurtain.Denied as denied:
            answer, text = denied.reason, str(denied)
        if answer != known:
            heard.write(json.dumps({"pid": os.getpid(), "answer": answer, "text": text}) + "\\n")
            known = answer
        time.sleep(0.01)  # a hundred actions a second
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


def read_now_ns() -> int:
    """CLOCK_BOOTTIME, on which permits are counted."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def wait_until(what: str, is_there: Callable[[], Any], within_s: float = BOUND_S) -> Any:
    """Look until something is there, and return it; a bound that is reached fails the test by name."""
    end_ns = time.monotonic_ns() + int(within_s * 1e9)
    while not (found := is_there()):
        assert time.monotonic_ns() < end_ns, f"{what}: not within {within_s} s"
        time.sleep(POLL_S)  # between two looks; the bound stands above
    return found


@dataclass
class Started:
    """A long-running command with its log in a file, so that a flood of words never blocks it."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def read_log(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for(self, text: str, count: int = 1) -> str:
        """The log once it has said `text` so many times."""

        def look() -> str:
            words = self.read_log()
            assert self.process.poll() is None or words.count(text) >= count, f"ended without {text!r}: {words}"
            return words if words.count(text) >= count else ""

        return str(wait_until(f"{text!r} in {self.log}", look))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Ask politely, after waking it if it was stopped; kill it when it does not go."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
        try:
            return self.process.wait(timeout=20)
        finally:
            self.kill()


@dataclass
class Fleet:
    """One fleet in one directory. `prefix` is put before every command."""

    directory: Path
    prefix: tuple[str, ...] = ()
    processes: list[Started] = field(default_factory=list)

    # Commands

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [*self.prefix, COMMAND, *words], cwd=self.directory, capture_output=True, text=True, timeout=60, check=False
        )

    def ask(self, *words: str | Path, code: int = 0) -> dict[str, Any]:
        """Run one command with --json and return its object."""
        done = self.run(*words, "--json")
        assert done.returncode == code, f"{words} exited {done.returncode}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return dict(json.loads(done.stdout))

    def start(self, name: str, *words: str | Path) -> Started:
        """Start a long-running command."""
        log = self.directory / f"{name}-{len(self.processes)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen([*self.prefix, COMMAND, *words], cwd=self.directory, stdout=file, stderr=file)
        self.processes.append(Started(process, log))
        return self.processes[-1]

    def end(self) -> None:
        for started in reversed(self.processes):
            started.end()

    # A day's beginning

    def init(self) -> None:
        self.directory.mkdir()
        done = self.run("init", ".", "--fleet", FLEET)
        assert done.returncode == 0, done.stderr

    def up(self) -> Started:
        started = self.start("up", "up")
        started.wait_for("control plane is up")
        return started

    def enrol(self, name: str = NODE) -> Path:
        words = ("--service", SERVICE, "--out", f"nodes/{name}", "--store", "store", "--runtime-dir", "run")
        path = self.directory / self.ask("node", "enrol", name, *words)["agent_config"]
        text = path.read_text().replace("\n[bus]", f"argv = {json.dumps([str(self.directory)])}\n\n[bus]", 1)
        path.write_text(text)
        return Path(path)

    def release(self, version: int = 1) -> str:
        """Seal the acting service and have it released with two approvals."""
        digest = self.seal(version)
        release = self.ask("release", "propose", "release.toml", "--artifact", digest, "--store", "store")["release"]
        self.ask("release", "approve", release, "--key", "approver-1", "--key", "approver-2")
        return str(release)

    def seal(self, version: int = 1) -> str:
        source = self.directory / f"artifact-{version}"
        source.mkdir()
        (source / "main.py").write_text(f"# version {version}\n{ACTING_SERVICE}")
        (self.directory / "release.toml").write_text(RELEASE.format(version=version))
        return str(self.ask("seal", source, "--store", "store")["digest"])

    def agent(self, name: str = NODE) -> Started:
        return self.start("agent", "agent", "--config", f"nodes/{name}/agent.toml")

    def begin(self) -> tuple[Started, Started]:
        """A control plane, one node with its agent, and a service that acts."""
        self.init()
        up = self.up()
        self.enrol()
        self.release()
        agent = self.agent()
        self.wait_acting()
        return up, agent

    # What is there

    @property
    def page(self) -> Path:
        return self.directory / "nodes" / NODE / "run" / "permit.page"

    def read_run(self) -> dict[str, Any]:
        return dict(json.loads((self.directory / "state" / "run.json").read_text()))

    def read_heard(self) -> list[dict[str, Any]]:
        """Every change of the guard's answer so far."""
        path = self.directory / "heard"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def read_acted(self) -> tuple[int, int]:
        """How many actions the newest service process was allowed, and when the last one was."""
        path = self.directory / "acted"
        data = path.read_bytes() if path.exists() else b""
        count, at_ns = struct.unpack("<QQ", data) if len(data) == 16 else (0, 0)
        return count, at_ns

    def wait_acting(self) -> int:
        """Wait for an action that is allowed from now on; returns how long that took, in ns."""
        since_ns = read_now_ns()
        wait_until("an allowed action", lambda: self.read_acted()[1] > since_ns)
        return self.read_acted()[1] - since_ns

    def wait_heard(self, answer: str, after: int) -> dict[str, Any]:
        """The first change to `answer` behind the first `after` changes."""
        return dict(
            wait_until(
                f"the answer {answer}, after {after} of {self.read_heard()[-3:]}",
                lambda: next((line for line in self.read_heard()[after:] if line["answer"] == answer), None),
            )
        )


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def send(pid: int, number: signal.Signals) -> int:
    """Send a signal; returns when, in ns."""
    os.kill(pid, number)
    return read_now_ns()
