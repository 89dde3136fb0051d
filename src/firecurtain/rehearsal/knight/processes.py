# SPDX-License-Identifier: Apache-2.0
"""Every process of one arm in one place, so that none is left behind, however the rehearsal ends.

A child dies with us by the kernel's parent-death signal, which follows the thread that started it: start children from
the main thread only. It leads a process group of its own, so that the Ctrl-C of a terminal comes to us alone. What a
child starts dies with it (agents and control plane see to that), and we wait for those too. This module knows no roles:
what a process does is its caller's business.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from firecurtain.rehearsal.knight.ledgers import RehearsalError
from firecurtain.terms import InvariantError

STOP_TIMEOUT_S = 5.0  # chosen: a router drains within one second, the venue within two
HEIR_TIMEOUT_S = 2.0  # chosen: the kernel delivers a parent-death signal within a millisecond on an idle machine
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LOG_TAIL_BYTES = 2000


class Processes:
    """Starts named processes and ends them; as a context it ends all of them."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        listener_fd: int | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process; what it says goes into `<logs>/<name>.log`. Without `environment` it gets ours.

        Raises: InvariantError: not the main thread, or the name is taken.
        """
        if threading.current_thread() is not threading.main_thread() or name in self._running:
            raise InvariantError(f"start {name!r} once and from the main thread; running: {sorted(self._running)}")
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                cwd=directory,
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log,
                env=environment,
                pass_fds=() if listener_fd is None else (listener_fd,),
                process_group=0,
                preexec_fn=_make_tie(),
            )
        self._running[name] = process
        return process

    def find_pid(self, name: str) -> int:
        """The process id of a running process."""
        return self._running[name].pid

    def raise_for_dead(self, names: Collection[str]) -> None:
        """Raises: RehearsalError naming the first of these that ended without being asked, with its last words."""
        for name, process in self._running.items():
            if name in names and process.poll() is not None:
                raise RehearsalError(f"{name} ended by itself with code {process.returncode}: {self.read_tail(name)}")

    def list_living(self, names: Sequence[str]) -> list[str]:
        """Those of these that have not ended."""
        return [name for name in names if self._running[name].poll() is None]

    def stop(self, names: Sequence[str]) -> None:
        """Ask these to end, all at once, and wait for each.

        Raises: RehearsalError: one did not end in time (it is killed then) or ended with an error.
        """
        for name in names:
            self._running[name].send_signal(signal.SIGTERM)
        for name in names:
            try:
                code = self._running[name].wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                raise RehearsalError(
                    f"{name} did not stop within {STOP_TIMEOUT_S} s: {self.read_tail(name)}"
                ) from error
            if code != 0:
                raise RehearsalError(f"{name} ended with code {code}: {self.read_tail(name)}")
            del self._running[name]

    def collect(self, name: str, timeout_s: float) -> tuple[int, bytes]:
        """Wait for a process that ends by itself and was started with `stdout=PIPE`: its code and what it printed.

        Raises: RehearsalError: it did not end in time; it runs on until `kill_all`.
        """
        process = self._running[name]
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            raise RehearsalError(f"{name} did not end within {timeout_s:g} s: {self.read_tail(name)}") from error
        del self._running[name]
        return process.returncode, output

    def kill_all(self) -> None:
        """End every process and wait until it is gone, with all that it started."""
        living = [process for process in self._running.values() if process.poll() is None]
        heirs = [handle for process in living for handle in _open_children(process.pid)]
        for process in living:
            # Not yet waited for, so its number cannot belong to anyone else.
            os.killpg(process.pid, signal.SIGKILL)
        for process in living:
            process.wait()
        for handle in heirs:
            select.select([handle], [], [], HEIR_TIMEOUT_S)
            os.close(handle)
        self._running.clear()

    def read_tail(self, name: str) -> str:
        """The last words of a process."""
        words = (self._logs / f"{name}.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
        return words or "it said nothing"


def _make_tie() -> Callable[[], None]:
    """What a child does before it becomes its program. All it needs is looked up here, before the fork."""
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def tie() -> None:
        if prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
            os._exit(1)  # we died in between, and nobody would tell this child

    return tie


def read_children(pid: int) -> list[int]:
    """The processes that a process's main thread started, none when it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


def _open_children(pid: int) -> list[int]:
    """A handle for each child, readable once it has ended, whoever adopted it by then."""
    handles = []
    for child in read_children(pid):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            handles.append(os.pidfd_open(child))
    return handles


def read_interpreter() -> str:
    """The interpreter that every process of the rehearsal runs on."""
    return sys.executable
