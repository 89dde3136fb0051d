# SPDX-License-Identifier: Apache-2.0
"""Run the arms one after another, each for one window of real time in a temporary directory of its own.

The runner starts processes, tells the feeder when the market opens, lets the fleet's people act at a quarter of the
window, stops everything in order and hands the ledgers to the judge. It decides nothing about right and wrong. Orders
still under way when the window is over are waited for, as a gateway would; what burns meanwhile is counted too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firecurtain.rehearsal.knight.arms import ARMS, DEFAULT_ARMS, Arm, Outcome
from firecurtain.rehearsal.knight.artifacts.smars import clock
from firecurtain.rehearsal.knight.fleet import Fleet, Site
from firecurtain.rehearsal.knight.judge import judge
from firecurtain.rehearsal.knight.ledgers import (
    Answered,
    Event,
    Execution,
    Reconciled,
    RehearsalError,
    Session,
    read_lines,
)
from firecurtain.rehearsal.knight.market import MORNING_S, NODES, PARENTS, SHARES_PER_PARENT
from firecurtain.rehearsal.knight.processes import Processes, read_interpreter
from firecurtain.terms import NS_PER_S, ConfigError

WINDOW_S_MIN = 5.0
ROUTERS_TIMEOUT_NS = 20 * NS_PER_S
LOOK_NS = NS_PER_S // 20
HOUSE = ("venue", "feeder")  # without these there is no judgement; a server may die, and the judge sees what follows
OPEN_AFTER_NS = 50_000_000  # chosen: the line that opens the market has arrived by then
OVERTIME_NS = 10 * NS_PER_S  # chosen: beyond it, orders without a server are not waited for
SOCKET_PATH_BYTES_MAX = 107  # sun_path of <sys/un.h> without its final zero


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose. `window_s` is real time; nothing runs faster than it did."""

    arms: tuple[str, ...] = DEFAULT_ARMS
    seed: int = 1
    straggler: int = 8
    window_s: float = 10.0

    def __post_init__(self) -> None:
        """Raises: ConfigError: an unknown arm, a server that does not exist, a window too short to judge."""
        object.__setattr__(self, "arms", tuple(dict.fromkeys(self.arms)))  # named twice, run once
        unknown = [name for name in self.arms if name not in ARMS]
        if unknown or not self.arms:
            raise ConfigError(f"no arm {', '.join(unknown) or 'chosen'}. The arms are: {', '.join(ARMS)}.")
        if not 1 <= self.straggler <= NODES:
            raise ConfigError(f"--straggler {self.straggler}: the servers are 1 to {NODES}.")
        if not WINDOW_S_MIN <= self.window_s <= MORNING_S:
            raise ConfigError(
                f"--window {self.window_s:g} is not between {WINDOW_S_MIN:g} and {MORNING_S} seconds: "
                "below that a rate over half a window says nothing."
            )


@dataclass(frozen=True, slots=True)
class Progress:
    """What can be seen of a running arm; `pids` is empty while it is being set up."""

    arm: str
    elapsed_s: float
    window_s: float
    executions: int
    parents_done: int
    pids: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Result:
    """The whole rehearsal: each arm's outcome and what it claimed in vain."""

    options: Options
    outcomes: Mapping[str, Outcome]
    broken: Mapping[str, tuple[str, ...]]

    @property
    def holds(self) -> bool:
        """No arm broke its claim."""
        return not any(self.broken.values())


def run_rehearsal(options: Options, observe: Callable[[Progress], None]) -> Result:
    """Run the chosen arms. Call it from the main thread; an exception (Ctrl-C, too) leaves no process behind.

    Raises: RehearsalError: a process failed, so nothing can be said about the arms.
    """
    outcomes = {name: run_arm(ARMS[name], options, observe) for name in options.arms}
    broken = {name: tuple(ARMS[name].claim(outcome)) for name, outcome in outcomes.items()}
    return Result(options, outcomes, broken)


def run_arm(arm: Arm, options: Options, observe: Callable[[Progress], None]) -> Outcome:
    """Run one arm for one window and judge it. Raises: RehearsalError."""
    with (
        _make_directory("firecurtain-knight-", None) as directory,
        _make_directory(f"{directory.name}-", _find_memory()) as memory,
        Processes(directory) as processes,
    ):
        site = Site(directory, memory, memory, processes, options.straggler if arm.has_straggler else None)
        observe(Progress(arm.name, 0.0, options.window_s, 0, 0, {}))
        house = _House(site, options)
        house.start()
        fleet = arm.make_fleet(site)
        fleet.start()
        house.wait_for_routers()
        return house.play(arm, fleet, observe)


class _House:
    """The venue, the feeder and the clock of one arm."""

    def __init__(self, site: Site, options: Options) -> None:
        self._site = site
        self._options = options
        self._window_ns = int(options.window_s * NS_PER_S)
        self._venue = _Tail(site.directory / "venue.ledger")
        self._feed = _Tail(site.directory / "feeder.ledger")
        self._feeder: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start venue and feeder on listening sockets that exist before them, so that nobody connects too early."""
        module = [read_interpreter(), "-m"]
        package = "firecurtain.rehearsal.knight"
        with listen(self._site.sockets / "venue.sock") as listener:
            argv = [*module, f"{package}.venue", str(listener.fileno()), str(self._venue.path)]
            self._site.processes.start("venue", argv, listener_fd=listener.fileno())
        with listen(self._site.sockets / "feeder.sock") as listener:
            argv = [*module, f"{package}.feeder", str(listener.fileno()), str(self._site.sockets)]
            argv += [str(self._feed.path), str(self._options.seed)]
            self._feeder = self._site.processes.start(
                "feeder", argv, listener_fd=listener.fileno(), stdin=subprocess.PIPE
            )

    def wait_for_routers(self) -> None:
        """Return when all eight are connected to the feeder. Raises: RehearsalError."""
        give_up_ns = clock.now_ns() + ROUTERS_TIMEOUT_NS
        connected: set[int] = set()
        while len(connected) < NODES:
            self._site.processes.raise_for_dead(HOUSE)
            connected |= {event.node for event in self._feed.read_new() if isinstance(event, Session)}
            if clock.now_ns() > give_up_ns:
                raise RehearsalError(f"only routers {sorted(connected)} connected within 20 s; the machine is too busy")
            clock.sleep(LOOK_NS / NS_PER_S)

    def play(self, arm: Arm, fleet: Fleet, observe: Callable[[Progress], None]) -> Outcome:
        """Open the market, let the window run, close, judge."""
        open_ns = self._open_market()
        close_ns = open_ns + self._window_ns
        self._watch_until(open_ns, open_ns + self._window_ns // 4, arm, fleet, observe)
        fleet.act()
        self._watch_until(open_ns, close_ns, arm, fleet, observe)
        while (now_ns := clock.now_ns()) < close_ns + OVERTIME_NS and len(self._feed.done) < PARENTS:
            self._watch_until(open_ns, now_ns + LOOK_NS, arm, fleet, observe)
        pids = self._read_pids(fleet)
        fleet.stop()
        self._site.processes.stop(["feeder"])
        self._site.processes.stop(["venue"])
        report = fleet.read_report()
        figures = judge(self._venue.read_all(), self._feed.read_all(), open_ns, self._window_ns, report.guards)
        return Outcome(self._options.straggler, figures, report, pids)

    def _open_market(self) -> int:
        if self._feeder is None or self._feeder.stdin is None:
            raise RehearsalError("the market cannot open before the feeder runs")
        open_ns = clock.now_ns() + OPEN_AFTER_NS
        with self._feeder.stdin as line:
            line.write(f"{open_ns} {self._window_ns}\n".encode())
        return open_ns

    def _watch_until(
        self, open_ns: int, until_ns: int, arm: Arm, fleet: Fleet, observe: Callable[[Progress], None]
    ) -> None:
        while (now_ns := clock.now_ns()) < until_ns:
            self._site.processes.raise_for_dead(HOUSE)
            self._venue.read_new()
            self._feed.read_new()
            elapsed_s = max(now_ns - open_ns, 0) / NS_PER_S
            counts = self._venue.executions, len(self._feed.done)
            observe(Progress(arm.name, elapsed_s, self._options.window_s, *counts, self._read_pids(fleet)))
            clock.sleep(min(LOOK_NS, until_ns - now_ns) / NS_PER_S)

    def _read_pids(self, fleet: Fleet) -> dict[str, int]:
        own = {name: self._site.processes.find_pid(name) for name in ("venue", "feeder")}
        return own | dict(fleet.read_pids())


class _Tail:
    """A ledger read while it grows: whole lines only."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.executions = 0
        self.done: set[int] = set()
        self._offset = 0

    def read_new(self) -> list[Event]:
        """The events since the last call."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as ledger:
            ledger.seek(self._offset)
            data = ledger.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        events = list(read_lines(whole.decode("ascii").splitlines()))
        self.executions += sum(isinstance(event, Execution) for event in events)
        self.done.update(_list_done(events))
        return events

    def read_all(self) -> Iterator[Event]:
        """Every event from the beginning."""
        with self.path.open(encoding="ascii") as ledger:
            yield from read_lines(ledger)


def _list_done(events: Sequence[Event]) -> list[int]:
    """The orders known to be filled: by their router, or by the drop copy after their router was lost."""
    answered = [event.parent for event in events if isinstance(event, Answered) and event.outcome == "done"]
    lost = [event for event in events if isinstance(event, Reconciled)]
    return answered + [event.parent for event in lost if event.shares_executed >= SHARES_PER_PARENT]


def _find_memory() -> str | None:
    """Where permit pages belong: memory; a short path too, as sockets need. None: the system's temporary directory."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a private directory is made there


@contextlib.contextmanager
def _make_directory(prefix: str, parent: str | None) -> Iterator[Path]:
    """A directory of our own; sealed artifacts in it are read-only, so they are opened up before it is removed."""
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        yield directory
    finally:
        for parent, _, _ in os.walk(directory):
            Path(parent).chmod(0o700)
        shutil.rmtree(directory)


def listen(path: Path) -> socket.socket:
    """A listening socket at this path. Raises: RehearsalError: the path is too long for the kernel."""
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise RehearsalError(f"socket path {path} exceeds {SOCKET_PATH_BYTES_MAX} bytes. Set TMPDIR to a shorter path.")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(NODES * 2)
    return listener
