# SPDX-License-Identifier: Apache-2.0
"""Every process of one arm in one place, so that none is left behind, however the rehearsal ends.

A child dies with us by the kernel's parent-death signal, which follows the thread that started it: start children from
the main thread only. It leads a process group of its own, so that what it starts is ended with it. This module knows
no roles: what a process does is its caller's business.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from firecurtain.rehearsal.knight.ledgers import RehearsalError
from firecurtain.terms import InvariantError

STOP_TIMEOUT_S = 5.0  # chosen: a router drains within one second, the venue within two
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
        listener_fd: int | None = None,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start a process; its output goes into `<logs>/<name>.log`. Without `environment` it gets ours.

        Raises: InvariantError: not the main thread, or the name is taken.
        """
        if threading.current_thread() is not threading.main_thread() or name in self._running:
            raise InvariantError(f"start {name!r} once and from the main thread; running: {sorted(self._running)}")
        with (self._logs / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=log,
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
                raise RehearsalError(f"{name} ended by itself with code {process.returncode}: {self._read_tail(name)}")

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
                    f"{name} did not stop within {STOP_TIMEOUT_S} s: {self._read_tail(name)}"
                ) from error
            if code != 0:
                raise RehearsalError(f"{name} ended with code {code}: {self._read_tail(name)}")
            del self._running[name]

    def kill_all(self) -> None:
        """End every process and all that it started."""
        for process in self._running.values():
            # Before it is waited for, the leader's number cannot belong to anyone else.
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._running.values():
            process.wait()
        self._running.clear()

    def _read_tail(self, name: str) -> str:
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


def read_interpreter() -> str:
    """The interpreter that every process of the rehearsal runs on."""
    return sys.executable
