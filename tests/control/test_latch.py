# SPDX-License-Identifier: Apache-2.0
"""A stop is durable before anybody is told, and survives whatever kills the process."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from firecurtain.control.latch import Latch, LatchedStop, LatchError, create_latch, latch_stop, open_latch

CLOCK = bytes(16)
MakeStop = Callable[..., bytes]


@pytest.fixture
def path(tmp_path: Path, latch: Latch) -> Path:
    return tmp_path / "latch"


def reopen(path: Path) -> tuple[dict[bytes, LatchedStop], int]:
    latch, dropped_bytes = open_latch(path)
    latch.close()
    return dict(latch.stops), dropped_bytes


def test_a_stop_is_read_again_with_its_author_and_its_moment(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    stop = latch_stop(make_stop(b"a" * 16, "service:smars"), 41, CLOCK)
    latch.add(stop)
    assert reopen(path) == ({b"a" * 16: stop}, 0)
    assert stop.entry.scope == "service:smars"


def test_the_file_is_synced_before_add_returns(
    latch: Latch, path: Path, make_stop: MakeStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced_bytes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced_bytes.append(os.fstat(descriptor).st_size))
    latch.add(latch_stop(make_stop(b"a" * 16), 1, CLOCK))
    assert synced_bytes == [path.stat().st_size]


def test_adding_a_known_stop_again_keeps_its_first_durability(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    latch.add(latch_stop(make_stop(b"a" * 16), 1, CLOCK))
    latch.add(latch_stop(make_stop(b"a" * 16), 2, CLOCK))
    assert [stop.durable_ns for stop in reopen(path)[0].values()] == [1]


def test_a_whole_last_line_without_its_newline_counts(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    latch.add(latch_stop(make_stop(b"a" * 16), 1, CLOCK))
    path.write_bytes(path.read_bytes()[:-1])
    assert set(reopen(path)[0]) == {b"a" * 16}
    assert path.read_bytes().endswith(b"\n")


def test_every_torn_last_line_is_dropped_alone_and_the_next_stop_stands_behind_it(
    path: Path, make_stop: MakeStop
) -> None:
    """Goal: no crash while writing costs an older stop. Method: cut the second line at many lengths."""
    latch, _ = open_latch(path)
    latch.add(latch_stop(make_stop(b"a" * 16), 1, CLOCK))
    first = path.read_bytes()
    latch.add(latch_stop(make_stop(b"b" * 16), 2, CLOCK))
    latch.close()
    second = path.read_bytes()[len(first) :]
    for length in [*range(1, len(second) - 1, 29), len(second) - 2]:
        path.write_bytes(first + second[:length])
        latch, dropped_bytes = open_latch(path)
        assert (set(latch.stops), dropped_bytes) == ({b"a" * 16}, length)
        latch.add(latch_stop(make_stop(b"c" * 16), 3, CLOCK))
        latch.close()
        assert set(reopen(path)[0]) == {b"a" * 16, b"c" * 16}


def test_a_changed_bit_in_an_acknowledged_line_refuses_the_file(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    latch.add(latch_stop(make_stop(b"a" * 16), 1, CLOCK))
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(LatchError, match="damaged line"):
        open_latch(path)


def test_a_missing_latch_is_refused_and_a_second_founding_too(tmp_path: Path, path: Path) -> None:
    with pytest.raises(LatchError, match="restore it"):
        open_latch(tmp_path / "elsewhere")
    with pytest.raises(LatchError, match="new fleet"):
        create_latch(path)


def test_a_failing_fsync_holds_the_stop_in_memory_and_breaks_the_latch_for_good(
    latch: Latch, make_stop: MakeStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LatchError, match="signs nothing more"):
        latch.add(latch_stop(make_stop(b"a" * 16), 1, CLOCK))
    monkeypatch.undo()
    with pytest.raises(LatchError):
        latch.add(latch_stop(make_stop(b"b" * 16), 2, CLOCK))
    assert set(latch.stops) == {b"a" * 16, b"b" * 16}
