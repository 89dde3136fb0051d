# SPDX-License-Identifier: Apache-2.0
"""An agent killed in the middle of a rehearsal. Goal: nothing acts on behalf of a node whose agent is gone. Method: the
healthy arm, its own process ids, SIGKILL, and the venue's ledger."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from bench.clock import now_ns
from firecurtain.rehearsal.knight.arms import ARMS
from firecurtain.rehearsal.knight.ledgers import Execution, read_lines
from firecurtain.rehearsal.knight.runner import Options, Progress, run_arm

NODE = 3
MAX_AGE_NS = 1_500_000_000
ACTING_S = 0.5
WATCHED_NS = MAX_AGE_NS + 300_000_000


class EnoughError(Exception):
    """What was to be seen was seen: the rest of the window would only take time."""


class Killer:
    """Watches an arm, kills one agent in it, and notes what its node still did."""

    def __init__(self, temporary: Path) -> None:
        self._temporary = temporary
        self._router = 0
        self.killed_ns = 0
        self.gone_ns = 0
        self.executions: list[Execution] = []

    def observe(self, progress: Progress) -> None:
        """Called by the runner every few hundredths of a second."""
        if not self.killed_ns:
            if progress.elapsed_s >= ACTING_S:
                self._router = progress.pids[f"router-{NODE}"]
                os.kill(progress.pids[f"agent-{NODE}"], signal.SIGKILL)
                self.killed_ns = now_ns()
        elif not self.gone_ns and not Path(f"/proc/{self._router}/exe").exists():
            self.gone_ns = now_ns()
        elif now_ns() > self.killed_ns + WATCHED_NS:
            (ledger,) = self._temporary.glob("*/venue.ledger")
            whole, _, _ = ledger.read_text("ascii").rpartition("\n")
            self.executions = [event for event in read_lines(whole.splitlines()) if isinstance(event, Execution)]
            raise EnoughError


def test_a_killed_agent_takes_its_router_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killer = Killer(tmp_path)
    with pytest.raises(EnoughError):
        run_arm(ARMS["healthy"], Options(arms=("healthy",), window_s=5.0), killer.observe)
    assert 0 < killer.gone_ns - killer.killed_ns <= MAX_AGE_NS
    own_ns = [event.receipt_ns for event in killer.executions if event.node == NODE]
    assert own_ns, "the router had not acted before"
    assert max(own_ns) <= killer.killed_ns + MAX_AGE_NS
    others_ns = [event.receipt_ns for event in killer.executions if event.node != NODE]
    assert max(others_ns) > killer.gone_ns, "the others had stopped too"
