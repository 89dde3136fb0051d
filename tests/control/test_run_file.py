# SPDX-License-Identifier: Apache-2.0
"""The file that says where the control plane is, when its disk or its broker fails."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from firecurtain.bus.server import ServerFailed
from firecurtain.control.credentials import Credentials
from firecurtain.control.run import keep_run_file
from firecurtain.terms import ConfigError

BOUND_S = 10.0


class Broker:
    """Instead of a supervised broker: a process id, and whether it was given up."""

    url = "nats://127.0.0.1:1"

    def __init__(self) -> None:
        self.pid = 100
        self.checks = 0
        self.error: ServerFailed | None = None
        self._checked = asyncio.Event()

    def check(self) -> None:
        self.checks += 1
        self._checked.set()
        if self.error is not None:
            raise self.error

    async def wait_checked(self) -> None:
        """Until the run file was looked at twice more, so that one whole round lies between."""
        aim = self.checks + 2
        async with asyncio.timeout(BOUND_S):
            while self.checks < aim:
                self._checked.clear()
                await self._checked.wait()


async def test_a_run_file_that_cannot_be_written_is_written_once_it_can_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecurtain.control.run.RUN_FILE_S", 0.01)
    broker = Broker()
    keeping = asyncio.create_task(keep_run_file(tmp_path, broker, 0))  # type: ignore[arg-type]  # what it asks of one
    await broker.wait_checked()
    (tmp_path / "run.new").mkdir()  # in the place of the file that is written first
    broker.pid = 200
    await broker.wait_checked()
    assert not keeping.done()
    assert json.loads((tmp_path / "run.json").read_text())["broker_pid"] == 100
    (tmp_path / "run.new").rmdir()
    await broker.wait_checked()
    assert json.loads((tmp_path / "run.json").read_text())["broker_pid"] == 200
    broker.error = ServerFailed("planted: given up")
    with pytest.raises(ServerFailed, match="given up"):
        await asyncio.wait_for(keeping, BOUND_S)


def test_a_password_that_could_not_be_kept_is_given_to_nobody(tmp_path: Path) -> None:
    credentials = Credentials(tmp_path, "knight", iter("abcdef").__next__)
    credentials.make_users(())
    (tmp_path / "passwords.new").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        credentials.make_users(["host-8"])
    (tmp_path / "passwords.new").rmdir()
    credentials.make_users(["host-8"])
    kept = Credentials(tmp_path, "knight", iter("xyz").__next__)
    assert kept.get_node_password("host-8") == credentials.get_node_password("host-8")
