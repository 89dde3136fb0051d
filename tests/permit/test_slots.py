# SPDX-License-Identifier: Apache-2.0
"""Counter slots: what a guard counts is what an agent sums, for each process, also after the process is dead."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecurtain.permit import (
    PageRefused,
    ProcessKey,
    SlotWriter,
    compute_slots_directory,
    read_process_key,
    read_slots,
    remove_slots,
)
from firecurtain.permit.slots import COUNTERS_MAX, ENTRIES_MAX, SLOT_FILES_MAX
from firecurtain.terms import InvariantError, PermitError, Reason
from support.mutants import load_mutant


@pytest.fixture
def slots_directory(writer) -> str:
    return compute_slots_directory(writer.path)


def test_golden_slot_bytes(writer, slots_directory):
    slot = SlotWriter(writer.path)
    slot.add_counter("send-order:acquired").add(3)
    slot.add_counter("send-order:usd_micro").add(5_025_000_000)
    me = read_process_key(os.getpid())
    data = Path(slots_directory, f"{me.pid}-{me.start_time_ticks}-0.slots").read_bytes()
    assert data == (
        b"FCSLOTS1"
        + me.pid.to_bytes(8, "little")
        + me.start_time_ticks.to_bytes(8, "little")
        + bytes.fromhex("0200000000000000")
        + bytes(32)
        + bytes.fromhex("0300000000000000")
        + b"send-order:acquired".ljust(56, b"\0")
        + bytes.fromhex("406a832b01000000")
        + b"send-order:usd_micro".ljust(56, b"\0")
        + bytes(125 * 64)
    )


def test_the_agent_sees_each_process_by_itself_and_sums_its_files(writer, slots_directory):
    first, second = SlotWriter(writer.path), SlotWriter(writer.path)
    first.add_counter("a").add(2)
    second.add_counter("a").add(3)
    second.add_counter("b").add(4)
    me = read_process_key(os.getpid())
    assert read_slots(slots_directory).totals == {me: {"a": 5, "b": 4}}


CHILD = """
import sys
from firecurtain.permit import SlotWriter
counter = SlotWriter(sys.argv[1]).add_counter("a")
for _ in range(1000):
    counter.add(1)
print("counted", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_counted_stays_until_the_agent_folds_it(writer, slots_directory):
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, writer.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"counted\n"
        key = read_process_key(process.pid)
        process.kill()
    mine = SlotWriter(writer.path)
    mine.add_counter("a").add(1)
    assert read_slots(slots_directory).totals[key] == {"a": 1000}
    remove_slots(slots_directory, key)
    assert read_slots(slots_directory).totals == {read_process_key(os.getpid()): {"a": 1}}


def test_the_counter_after_the_last_is_refused_and_the_others_go_on(writer, slots_directory):
    slot = SlotWriter(writer.path)
    counters = [slot.add_counter(f"counter-{index}") for index in range(COUNTERS_MAX)]
    assert slot.free_count == 0
    with pytest.raises(InvariantError, match="ask free_count"):
        slot.add_counter("one more")
    counters[-1].add(7)
    assert read_slots(slots_directory).totals[read_process_key(os.getpid())]["counter-126"] == 7


@pytest.mark.parametrize("name", ["", "x" * 56, "é" * 28])
def test_a_name_that_does_not_fit_is_a_programmers_error(writer, name):
    with pytest.raises(InvariantError, match="1 to 55 bytes"):
        SlotWriter(writer.path).add_counter(name)


def test_without_a_slots_directory_there_is_no_slot(writer, slots_directory):
    Path(slots_directory).rmdir()
    with pytest.raises(PageRefused, match="restart the agent") as refusal:
        SlotWriter(writer.path)
    assert refusal.value.reason is Reason.NO_SLOT
    Path(slots_directory).symlink_to("/tmp")
    with pytest.raises(PageRefused) as refusal:
        SlotWriter(writer.path)
    assert refusal.value.reason is Reason.NO_SLOT


def test_a_process_that_attaches_for_ever_runs_out_of_files(writer):
    for _ in range(16):
        SlotWriter(writer.path)
    with pytest.raises(PageRefused, match="16 slot files already"):
        SlotWriter(writer.path)


def test_files_that_are_no_slots_are_named_and_not_read(writer, slots_directory):
    SlotWriter(writer.path).add_counter("a").add(1)
    directory = Path(slots_directory)
    good = next(directory.iterdir()).read_bytes()
    (directory / "readme.txt").write_bytes(good)
    (directory / "5-6-0.slots").write_bytes(good)
    (directory / "5-7-0.slots").write_bytes(b"")
    (directory / "5-8-0.slots").symlink_to("/etc/passwd")
    os.mkfifo(directory / "5-9-0.slots")
    reading = read_slots(slots_directory)
    assert reading.refused == ("5-6-0.slots", "5-7-0.slots", "5-8-0.slots", "5-9-0.slots", "readme.txt")
    assert reading.totals == {read_process_key(os.getpid()): {"a": 1}}


def test_the_number_of_files_is_bounded(writer, slots_directory):
    for pid in range(1, SLOT_FILES_MAX + 3):
        Path(slots_directory, f"{pid}-1-0.slots").touch()
    assert len(read_slots(slots_directory).refused) == SLOT_FILES_MAX + 2


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 8191), st.binary(min_size=1, max_size=64))
def test_a_damaged_file_never_breaks_the_agent(writer, slots_directory, offset, damage):
    SlotWriter(writer.path).add_counter("a").add(1)
    path = next(Path(slots_directory).iterdir())
    data = bytearray(path.read_bytes())
    data[offset : offset + len(damage)] = damage
    path.write_bytes(data)
    read_slots(slots_directory)
    path.unlink()


def test_the_directory_must_be_there(tmp_path):
    with pytest.raises(PermitError, match="restart the agent"):
        read_slots(f"{tmp_path}/none")


def test_a_process_that_is_not_there_has_no_key():
    assert read_process_key(os.getpid()) == ProcessKey(os.getpid(), read_process_key(os.getpid()).start_time_ticks)
    with pytest.raises(PermitError, match="cannot be seen"):
        read_process_key(2**22 + 1)


def test_a_mutant_that_counts_before_the_name_is_whole_shows_half_a_name(writer, slots_directory):
    """Method: stop between the two stores by letting the name's copy fail, and look what an agent would see."""
    from firecurtain.permit import slots as real

    mutant = load_mutant(
        "firecurtain.permit.slots",
        "            self._file[offset + 8 : offset + 8 + len(encoded)] = encoded\n            self._count += 1\n",
        "            self._count += 1\n            self._words[_COUNT_WORD] = self._count\n"
        "            self._file[offset + 8 : offset + 8 + len(encoded)] = encoded\n",
    )

    class Torn:
        def __setitem__(self, index, value):
            raise InterruptedError

    for module, names in ((real, []), (mutant, [""])):
        slot = module.SlotWriter(writer.path)
        slot._file = Torn()
        with pytest.raises(InterruptedError):
            slot.add_counter("a")
        assert list(read_slots(slots_directory).totals[read_process_key(os.getpid())]) == names


def test_a_flooded_directory_costs_a_bounded_look(slots_directory: str) -> None:
    for number in range(ENTRIES_MAX + 10):
        (Path(slots_directory) / f"noise-{number}").touch()
    assert len(read_slots(slots_directory).refused) == ENTRIES_MAX
