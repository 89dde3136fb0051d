# SPDX-License-Identifier: Apache-2.0
"""What an agent sums: its service's counters, bounded, and nobody else's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from firecurtain.agent.counters import TOTAL_MAX, CounterSum
from firecurtain.agent.process import read_uids
from firecurtain.permit import (
    PageHeader,
    PageWriter,
    SlotWriter,
    compute_slots_directory,
    read_boot_id,
    read_time_namespace,
)

NEIGHBOUR = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    tmp_path.chmod(0o700)
    header = PageHeader("theatre", "payouts", "host-8", 1_500_000_000, read_boot_id(), read_time_namespace())
    writer = PageWriter(f"{tmp_path}/permit/permit.page", header)
    yield writer.path
    writer.release()


def find_slot_files(page: str) -> list[Path]:
    return sorted(Path(compute_slots_directory(page)).iterdir())


def test_totals_that_no_message_could_hold_stay_at_the_largest_one(page: str) -> None:
    for _ in range(2):
        SlotWriter(page).add_counter("send-order:acquired").add(2**64 - 1)
    totals = CounterSum(page).read_totals(())
    assert totals == (("send-order:acquired", TOTAL_MAX),)
    msgspec.msgpack.encode(totals)


@as_root
def test_a_neighbours_file_counts_for_nothing_and_stays_where_it_is(page: str) -> None:
    SlotWriter(page).add_counter("send-order:acquired").add(7)
    SlotWriter(page).add_counter("send-order:acquired").add(1000)
    os.chown(find_slot_files(page)[1], NEIGHBOUR, NEIGHBOUR)
    assert CounterSum(page).read_totals(()) == (("send-order:acquired", 7),)
    assert len(find_slot_files(page)) == 2
    assert CounterSum(page).read_totals((NEIGHBOUR,)) == (("send-order:acquired", 1007),), "the service's own user"


@as_root
def test_a_service_that_left_the_agents_user_is_known_by_its_new_one() -> None:
    source = f"import os, sys; os.setuid({NEIGHBOUR}); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert read_uids(process.pid) == {NEIGHBOUR}
    assert read_uids(process.pid) == frozenset()
    assert read_uids(os.getpid()) == {os.geteuid()}
