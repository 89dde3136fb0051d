# SPDX-License-Identifier: Apache-2.0
"""The agent as an operating system process of its own, over a real broker, with a real service below it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from support import nats as broker
from support.agent_rig import CONTROL, FLEET, NODE, NODE_USER, SERVICE, Rig, make_stop, until

RUN = """import sys
from pathlib import Path
from firecurtain.agent import load_config, run
sys.exit(run(load_config(Path(sys.argv[1]))))
"""


class AgentProcess:
    """One agent started as a person would start it; its log is a file of JSON lines."""

    def __init__(self, rig: Rig, url: str) -> None:
        config = rig.directory / "agent.toml"
        config.write_text(
            f'fleet = "{FLEET}"\nservice = "{SERVICE}"\nnode = "{NODE}"\nroot = "keys/root.json"\n'
            'node_key = "node.pem"\nstate_dir = "state"\nstore = "store"\nruntime_dir = "run"\n'
            f'interpreter = "{sys.executable}"\n'
            f'[bus]\nurl = "{url}"\nuser = "{NODE_USER.name}"\npassword = "{NODE_USER.password}"\n'
        )
        config.chmod(0o600)
        self.log = rig.directory / "agent.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", RUN, str(config)], stderr=log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for its end."""
        self.process.send_signal(number)
        return self.process.wait(timeout=10)


@asynccontextmanager
async def running(rig: Rig, tmp_path: Path) -> AsyncIterator[tuple[AgentProcess, broker.Server]]:
    """Broker, stand-in control plane, agent and service, until all have a permit; nothing is left afterwards."""
    async with broker.running_server(tmp_path / "nats", (CONTROL, NODE_USER)) as server:
        bus = await broker.connect(server, CONTROL)
        await rig.control.start(bus)
        release, _ = rig.make_release(1)
        rig.control.allow(release)
        agent = AgentProcess(rig, server.url)
        try:
            await until(lambda: Path(rig.config.page_path).exists(), "the page")
            await until(lambda: rig.permit, "a permit")
            yield agent, server
        finally:
            if agent.process.poll() is None:
                agent.end(signal.SIGKILL)
            await rig.control.stop()
            await bus.close()


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def service_pid(rig: Rig) -> int:
    seen = rig.control.attests[-1].running
    assert seen is not None
    return seen.pid


async def test_a_stop_over_the_real_broker_closes_the_page_and_is_acknowledged(rig: Rig, tmp_path: Path) -> None:
    async with running(rig, tmp_path) as (agent, _):
        stop = make_stop("fleet")
        begun_ns = time.monotonic_ns()
        await rig.control.cast_stop(stop)
        await until(lambda: rig.permit is None, "a closed page")
        assert time.monotonic_ns() - begun_ns < 200_000_000
        await until(lambda: stop.id in rig.control.attests[-1].latched, "the acknowledgement")
        pid = service_pid(rig)
        assert agent.end() == 0
        assert not is_alive(pid)
        lines = [json.loads(line) for line in agent.log.read_text().splitlines()]
        assert any(line["event"] == "service started" and line["attestation"] == "L0 self-report" for line in lines)
        assert NODE_USER.password not in agent.log.read_text()


async def test_an_agent_that_is_killed_takes_its_service_with_it(rig: Rig, tmp_path: Path) -> None:
    async with running(rig, tmp_path) as (agent, _):
        pid = service_pid(rig)
        agent.end(signal.SIGKILL)
        await until(lambda: not is_alive(pid), "the end of the service")
        await until(lambda: rig.permit is None, "the end of the permit", limit_s=2.0)


async def test_a_broker_that_is_killed_and_comes_back_costs_no_more_than_the_silence(rig: Rig, tmp_path: Path) -> None:
    async with running(rig, tmp_path) as (_, server):
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: rig.permit, "a permit again, without anybody's help")
        seen = len(rig.control.attests)
        await until(lambda: len(rig.control.attests) > seen and rig.permit, "attests over the new broker")


async def test_a_second_agent_for_the_same_page_is_refused(rig: Rig, tmp_path: Path) -> None:
    async with running(rig, tmp_path):
        config = str(rig.directory / "agent.toml")
        other = await asyncio.create_subprocess_exec(sys.executable, "-c", RUN, config, stderr=subprocess.PIPE)
        _, said = await asyncio.wait_for(other.communicate(), 20)
        assert other.returncode != 0
        assert b"another agent holds the permit page" in said
        assert rig.permit


async def test_a_wrong_password_is_told_and_gives_no_permit(rig: Rig, tmp_path: Path) -> None:
    async with broker.running_server(tmp_path / "nats", (CONTROL,)) as server:
        agent = AgentProcess(rig, server.url)
        try:
            await until(lambda: agent.log.exists() and "refuses user" in agent.log.read_text(), "the reason in the log")
            assert rig.permit is None
        finally:
            assert agent.end() == 0


@pytest.mark.parametrize(
    ("text", "mode", "says"),
    [
        ("fleet = 1", 0o600, "Expected `str`"),
        ("flet = 'x'", 0o600, "nearest known key is `fleet`"),
        ("fleet = 'x'", 0o644, "chmod 600"),
        ("fleet", 0o600, "is not TOML"),
        ("fleet = 'x'\nkeys_dir = 'keys'", 0o644, "Name the agent.toml"),
    ],
)
def test_a_configuration_that_cannot_be_used_says_why(tmp_path: Path, text: str, mode: int, says: str) -> None:
    from firecurtain.agent import load_config
    from firecurtain.terms import ConfigError

    path = tmp_path / "agent.toml"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=says):
        load_config(path)
