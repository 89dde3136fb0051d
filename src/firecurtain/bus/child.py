# SPDX-License-Identifier: Apache-2.0
"""One `nats-server` process: started so that it dies with us, asked whether it is ready, ended or killed.

Nothing here decides when to start again; that is `server`. The child's end is noticed through a pidfd in the event
loop, so there is no thread and no polling.

How it ends matters. Ended politely it writes down what its stream counts, which starts faster and keeps the records
behind a damaged one. But after a full disk it counts a record it could not write, and written down that is a hole in
the ledger for ever (measured with 2.15.1): then it must be killed, so that its successor counts what is really there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from firecurtain.terms import InvariantError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
TERM_S = 5.0  # a healthy server ends within 60 ms; one with a broken disk may hang
PROBE_S = 1.0  # one attempt to log in; a server that is up answers within 1 ms

_libc = ctypes.CDLL(None, use_errno=True)


class Child:
    """A running nats-server and the moment of its end."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[int] = loop.create_future()
        loop.add_reader(self._pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal; to an ended child it does nothing."""
        if not self.ended.done():
            signal.pidfd_send_signal(self._pidfd, number)

    async def end(self) -> None:
        """Ask it to end, and kill it when it does not."""
        self.send(signal.SIGTERM)
        await asyncio.wait({self.ended}, timeout=TERM_S)
        await self.kill()

    async def kill(self) -> None:
        """Kill it and wait until it is gone. Nothing acknowledged is lost: `sync_interval: always`."""
        self.send(signal.SIGKILL)
        await asyncio.wait({self.ended})

    def _on_exit(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.ended.set_result(self._process.wait())


def spawn(command: list[str | Path], output: int, inherited: int) -> Child:
    """Start the child; `inherited` is the descriptor of the store's lock, held for as long as the child lives.

    Call it from the main thread: the kernel sends the parent-death signal when the THREAD that forked ends.
    Raises: InvariantError: called from another thread. OSError: the binary cannot be started.
    """
    if threading.current_thread() is not threading.main_thread():
        raise InvariantError("spawn must run in the main thread: a worker thread's end would kill the broker")
    # A session of its own: the Ctrl-C of a terminal goes to us alone, and we end the broker last.
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        pass_fds=(inherited,),
        start_new_session=True,
        preexec_fn=_make_die_with_parent(os.getpid()),  # two system calls: no lock is taken, nothing is imported
    )
    return Child(process)


async def probe(port: int, user: str, password: str) -> bool:
    """Does a server on this port know this user? Only the one that has read our newest configuration does."""
    try:
        async with asyncio.timeout(PROBE_S):
            return await _log_in(port, user, password)
    except (OSError, TimeoutError, asyncio.LimitOverrunError):
        return False


async def _log_in(port: int, user: str, password: str) -> bool:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        if not (await reader.readline()).startswith(b"INFO "):
            return False
        hello = json.dumps({"user": user, "pass": password, "verbose": False})
        writer.write(f"CONNECT {hello}\r\nPING\r\n".encode())
        return (await reader.readline()).startswith(b"PONG")
    finally:
        writer.close()
        with contextlib.suppress(OSError):  # a server that is just ending resets the connection
            await writer.wait_closed()


def _make_die_with_parent(parent: int) -> Callable[[], None]:
    def die_with_parent() -> None:
        # The parent may have died between fork and prctl, and then no signal will ever come.
        if _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0 or os.getppid() != parent:
            os._exit(127)

    return die_with_parent
