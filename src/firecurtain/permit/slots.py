# SPDX-License-Identifier: Apache-2.0
"""Counter slots: one file per process in `slots/` beside the permit page, written by its guard, summed by the agent.

    offset  size  field
         0     8  magic `FCSLOTS1`
         8     8  pid, as the process sees itself
        16     8  start time of the process, clock ticks since boot (field 22 of /proc/<pid>/stat)
        24     8  count of counters in use, at most 127
        32    32  zero
        64    64  counter 0: value (8), name (56: UTF-8, at most 55 bytes, zero padded)
       ...        one cache line for each counter

A single writer needs no lock: a value is one aligned store, and the count grows only after a name is whole. Values are
totals since the process started and never fall. When a process is proven dead the agent folds its totals and then
removes its files; until then they stay. Nothing here limits anything, and nothing is signed: slots protect against
loss, not against a user who may write the directory.
"""

from __future__ import annotations

import _thread  # the builtin lock: two actions may add their counters at once; `threading` stays out of the guard
import mmap
import os
import re
import stat
import struct
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from firecurtain.permit.page import PageRefused
from firecurtain.permit.place import open_directory
from firecurtain.terms import InvariantError, PermitError, Reason

COUNTERS_MAX = 127
COUNTER_NAME_SIZE_MAX = 55
SLOT_FILES_MAX = 1024
"""Chosen: a service restarted every second for a quarter of an hour with no agent to fold its files."""

ENTRIES_MAX = 8 * SLOT_FILES_MAX
"""Directory entries looked at in one reading: whoever fills a shared directory must not hold up the agent that renews
permits. Chosen: 58 ms of looking (measured on two shared cores); at double a renewal would come late."""

_LINE = 64
_FILE_SIZE = _LINE * (COUNTERS_MAX + 1)
_MAGIC = b"FCSLOTS1"
_HEADER = struct.Struct("<8sQQQ32x")
_COUNT_WORD = 3
_WORDS_PER_LINE = _LINE // 8
_FILE_NAME = re.compile(r"([1-9][0-9]{0,18})-([0-9]{1,19})-([0-9]{1,2})\.slots")
_FILES_PER_PROCESS_MAX = 16


class ProcessKey(NamedTuple):
    """One process for ever: pids come back, a pid with its start time does not."""

    pid: int
    start_time_ticks: int


@dataclass(frozen=True, slots=True)
class SlotsReading:
    """The totals of each process, and the names of files that could not be used (to be told, not to be guessed at)."""

    totals: dict[ProcessKey, dict[str, int]]
    refused: tuple[str, ...]


class SlotWriter:
    """The counters of this process. The only writer; a child of fork must not touch it.

    Raises: PageRefused: NO_SLOT: the file cannot be made.
    """

    def __init__(self, page_path: str) -> None:
        self._owner = read_process_key(os.getpid())
        file = _make_file(compute_slots_directory(page_path), self._owner)
        try:
            os.posix_fallocate(file, 0, _FILE_SIZE)
            self._file = mmap.mmap(file, _FILE_SIZE)
        except OSError as error:
            raise _no_slot(f"no room for the counter slots beside {page_path}: {error}") from error
        finally:
            os.close(file)
        self._words = memoryview(self._file).cast("Q")
        self._count = 0
        self._adding = _thread.allocate_lock()
        self._file[: _HEADER.size] = _HEADER.pack(_MAGIC, *self._owner, 0)

    @property
    def free_count(self) -> int:
        """How many counters can still be added."""
        return COUNTERS_MAX - self._count

    def add_counter(self, name: str) -> Counter:
        """A new counter at zero. Raises: InvariantError: the name does not fit, or all 127 are in use."""
        encoded = name.encode("utf-8")
        if not 0 < len(encoded) <= COUNTER_NAME_SIZE_MAX:
            raise InvariantError(f"counter name {name!r} needs 1 to {COUNTER_NAME_SIZE_MAX} bytes, has {len(encoded)}")
        with self._adding:
            if self._count == COUNTERS_MAX:
                raise InvariantError(f"all {COUNTERS_MAX} counters are in use, no room for {name!r}; ask free_count")
            offset = _LINE * (self._count + 1)
            self._file[offset + 8 : offset + 8 + len(encoded)] = encoded
            self._count += 1
            # The count is stored last: a reader never sees half a name.
            self._words[_COUNT_WORD] = self._count
            return Counter(self._words, self._count * _WORDS_PER_LINE)


class Counter:
    """One total that only grows. Not safe against two threads: its owner holds a lock, as for the limits."""

    __slots__ = ("_index", "_words", "value")

    def __init__(self, words: memoryview, index: int) -> None:
        self._words = words
        self._index = index
        self.value = 0

    def add(self, amount: int) -> None:
        """Add and publish in one aligned store. Micro-dollars end at 10**18, the largest limit, far below 2**64."""
        self.value = value = self.value + amount
        self._words[self._index] = value


def compute_slots_directory(page_path: str) -> str:
    """Where the processes served by this page keep their counters.

    >>> compute_slots_directory("/run/firecurtain/payouts/permit.page")
    '/run/firecurtain/payouts/slots'
    """
    return f"{page_path.rpartition('/')[0]}/slots"


def read_process_key(pid: int) -> ProcessKey:
    """Who a pid is now. Raises: PermitError: there is no such process, or /proc does not show it."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise PermitError(f"process {pid} cannot be seen: {error}. Do: mount /proc where this runs.") from error
    # The command, in parentheses, may itself contain spaces and parentheses: fields are counted from the last one.
    return ProcessKey(pid, int(text.rpartition(")")[2].split()[19]))


def read_slots(directory: str, owners: Collection[int] | None = None) -> SlotsReading:
    """All totals in a slots directory, by process; several files of one process are added up.

    Args:
        owners: the user ids whose files count; without it everybody's do. In a directory that all users may write, only
            this tells the service's files from a neighbour's.
    At most 1,024 files are used, the others are named in `refused`; after 8,192 entries no further one is looked at.
    Raises: PermitError: the directory is not readable.
    """
    totals: dict[ProcessKey, dict[str, int]] = {}
    refused = []
    used_count = 0
    for name in _list_files(directory):
        counters = _read_file(directory, name, owners) if used_count < SLOT_FILES_MAX else None
        if counters is None:
            refused.append(name)
            continue
        used_count += 1
        mine = totals.setdefault(_parse_file_name(name), {})
        for counter, value in counters.items():
            mine[counter] = mine.get(counter, 0) + value
    return SlotsReading(totals, tuple(refused))


def remove_slots(directory: str, owner: ProcessKey) -> None:
    """Remove the files of a process. Only after it is proven dead and its totals are folded: they are gone then."""
    for name in _list_files(directory):
        if _FILE_NAME.fullmatch(name) and _parse_file_name(name) == owner:
            (Path(directory) / name).unlink(missing_ok=True)


def _make_file(directory: str, owner: ProcessKey) -> int:
    parent, _, name = directory.rpartition("/")
    folder = None
    try:
        above = open_directory(parent)
        try:
            folder = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        finally:
            os.close(above)
        return _make_first_free(folder, owner)
    except (PageRefused, OSError) as error:
        raise _no_slot(f"no counter slot in {directory}: {error}") from error
    finally:
        if folder is not None:
            os.close(folder)


def _make_first_free(folder: int, owner: ProcessKey) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    for serial in range(_FILES_PER_PROCESS_MAX):
        try:
            return os.open(f"{owner.pid}-{owner.start_time_ticks}-{serial}.slots", flags, 0o600, dir_fd=folder)
        except FileExistsError:
            continue
    raise OSError(
        f"process {owner.pid} has {_FILES_PER_PROCESS_MAX} slot files already; attach once, not for each action"
    )


def _list_files(directory: str) -> list[str]:
    try:
        with os.scandir(directory) as entries:
            return sorted(entry.name for entry in islice(entries, ENTRIES_MAX))
    except OSError as error:
        raise PermitError(f"the slots in {directory} cannot be listed: {error}. Do: restart the agent.") from error


def _parse_file_name(name: str) -> ProcessKey:
    pid, start_time_ticks, _ = name.removesuffix(".slots").split("-")
    return ProcessKey(int(pid), int(start_time_ticks))


def _read_file(directory: str, name: str, owners: Collection[int] | None) -> dict[str, int] | None:
    """The counters of one file, or None when it is not a slot file, or not one of `owners`."""
    if not _FILE_NAME.fullmatch(name):
        return None
    try:
        file = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Gone or not ours to read: the caller names the file as refused.
        return None
    with os.fdopen(file, "rb") as stream:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or (owners is not None and status.st_uid not in owners):
            return None
        data = stream.read(_FILE_SIZE + 1)
    return _decode(data, _parse_file_name(name))


def _decode(data: bytes, owner: ProcessKey) -> dict[str, int] | None:
    if len(data) != _FILE_SIZE:
        return None
    magic, pid, start_time_ticks, count = _HEADER.unpack_from(data)
    if magic != _MAGIC or (pid, start_time_ticks) != owner or count > COUNTERS_MAX:
        return None
    counters: dict[str, int] = {}
    for offset in range(_LINE, _LINE * (count + 1), _LINE):
        name = data[offset + 8 : offset + _LINE].rstrip(b"\0").decode("utf-8", "replace")
        counters[name] = counters.get(name, 0) + int.from_bytes(data[offset : offset + 8], "little")
    return counters


def _no_slot(what: str) -> PageRefused:
    return PageRefused(Reason.NO_SLOT, f"{what}. Do: restart the agent, which makes the slots directory.")
