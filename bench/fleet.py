# SPDX-License-Identifier: Apache-2.0
"""A real fleet to stop: control plane with its broker, eight agents with a service each, and the venue they act on.

It is made with the commands that a user types. Everything lives in a temporary directory; pages live on tmpfs. However
a measurement ends, no process stays. It measures nothing by itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.clock import now_ns
from bench.service import ACTION, SERVICE
from bench.venue import LedgerReader
from firecurtain.cli.config import Config, read_config
from firecurtain.rehearsal.knight.operators import Operators, compute_argv
from firecurtain.rehearsal.knight.processes import Processes, read_interpreter
from firecurtain.rehearsal.knight.runner import listen
from firecurtain.terms import NS_PER_S, FirecurtainError

FLEET, NODES, ACTIONS_PER_S = "bench", 8, 2_000
PATIENCE_S = 30.0
LOOK_S = 0.005
REPOSITORY = Path(__file__).parent.parent

_RELEASE = f"""fleet = "{FLEET}"
service = "{SERVICE}"
version = 1
entrypoint = ["main.py"]
tokens = []
on_straggler = "hold"
min_nodes = {NODES}
stages = [{{ name = "all", nodes = "*" }}]

[limits.{ACTION}]
effects_per_cause = {10**12}
gross_usd = 1
"""


class BenchError(FirecurtainError):
    """A measurement could not be carried out; this says nothing about what was to be measured."""

    code = "bench"


class Fleet:
    """A running fleet. `ledger` is the venue's word; nothing else counts as an action."""

    def __init__(self, directory: Path, runtime: Path, processes: Processes) -> None:
        self.directory = directory
        self.ledger = LedgerReader(directory / "venue.ledger")
        self.operators = Operators(directory, processes)
        self._runtime = runtime
        self._processes = processes
        self._control = ""
        self._starts = 0

    @property
    def config(self) -> Config:
        """What `firecurtain` reads in the fleet's directory."""
        return read_config(self.directory / "firecurtain.toml")

    def start(self) -> None:
        """Found the fleet, release the service, start the agents; returns when all eight act."""
        self._start_venue()
        self.operators.run("init", "--fleet", FLEET)
        self.start_control()
        for node in range(1, NODES + 1):
            self.operators.run(*self._compute_enrolment(node))
        self._release()
        for node in range(1, NODES + 1):
            config = self.get_agent_config(node)
            words = json.dumps([str(node), str(self.directory / "venue.sock"), str(ACTIONS_PER_S / NODES)])
            config.write_text(config.read_text("utf-8").replace("\n[bus]", f"argv = {words}\n\n[bus]", 1), "utf-8")
            self._processes.start(f"agent-{node}", compute_argv("agent", "--config", str(config)))
        self.wait("actions of all eight nodes", self.make_acting())

    def start_control(self) -> None:
        """Start the control plane, for the first time or again; returns when it listens."""
        run_file = self._get_run_file()
        run_file.unlink(missing_ok=True)
        self._starts += 1
        self._control = f"control-{self._starts}"
        self._processes.start(self._control, compute_argv("up", "--config", str(self.directory / "firecurtain.toml")))
        self.wait("control plane", run_file.exists)

    def kill_control(self) -> None:
        """Kill broker and control plane at once with SIGKILL."""
        run = self.read_run()
        for pid in (run["broker_pid"], run["pid"]):
            os.kill(pid, signal.SIGKILL)
        self._control = ""

    def make_acting(self) -> Callable[[], bool]:
        """A condition: since now every node has acted at the venue."""
        since_ns, acted = now_ns(), set[int]()

        def is_acting() -> bool:
            acted.update(found.node for found in self.ledger.read_new() if found.receipt_ns > since_ns)
            return len(acted) == NODES

        return is_acting

    def wait(self, what: str, is_there: Callable[[], bool]) -> None:
        """Look until it is there. Raises: BenchError: not in time."""
        give_up_ns = now_ns() + int(PATIENCE_S * NS_PER_S)
        while not is_there():
            self._processes.raise_for_dead(("venue", self._control, *(f"agent-{node}" for node in range(1, NODES + 1))))
            if now_ns() > give_up_ns:
                raise BenchError(f"no {what} within {PATIENCE_S:g} s. The logs were in {self.directory}; run again.")
            time.sleep(LOOK_S)  # between two looks; the wait above has a bound

    def read_run(self) -> dict[str, Any]:
        """Process ids and address of the running control plane."""
        run = json.loads(self._get_run_file().read_text("utf-8"))
        return dict(run)

    def get_agent_config(self, node: int) -> Path:
        """The configuration that `node enrol` wrote."""
        return self.directory / f"node-{node}" / "agent.toml"

    def _start_venue(self) -> None:
        ledger = self.directory / "venue.ledger"
        ledger.touch()
        with listen(self.directory / "venue.sock") as listener:
            argv = [read_interpreter(), "-B", "-m", "bench.venue", str(listener.fileno()), str(ledger)]
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
            self._processes.start("venue", argv, listener_fd=listener.fileno(), environment=environment)

    def _compute_enrolment(self, node: int) -> tuple[str, ...]:
        out, runtime = self.get_agent_config(node).parent, self._runtime / f"host-{node}"
        places = ("--out", str(out), "--store", "store", "--runtime-dir", str(runtime))
        return ("node", "enrol", f"host-{node}", "--service", SERVICE, *places)

    def _release(self) -> None:
        source = self.directory / "artifact"
        source.mkdir()
        (source / "main.py").write_bytes((Path(__file__).parent / "service.py").read_bytes())
        (self.directory / "release.toml").write_text(_RELEASE, "utf-8")
        digest = str(self.operators.run("seal", str(source), "--store", "store")["digest"])
        proposed = self.operators.run("release", "propose", "release.toml", "--artifact", digest, "--store", "store")
        self.operators.run("release", "approve", str(proposed["release"]), "--key", "approver-1", "--key", "approver-2")

    def _get_run_file(self) -> Path:
        return self.directory / "state" / "run.json"


@contextlib.contextmanager
def running_fleet() -> Iterator[Fleet]:
    """A fleet that acts; afterwards nothing of it is left. From the main thread."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory is made there
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as directory,
        tempfile.TemporaryDirectory(prefix="firecurtain-bench-", dir=memory) as runtime,
        Processes(Path(directory)) as processes,
    ):
        fleet = Fleet(Path(directory), Path(runtime), processes)
        fleet.start()
        yield fleet
