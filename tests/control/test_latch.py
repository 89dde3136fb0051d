# SPDX-License-Identifier: Apache-2.0
"""A stop is durable before anybody is told, and survives whatever kills the process."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from firecurtain.control.latch import Latch, LatchedStop, LatchError, create_latch, open_latch
from firecurtain.wire.keys import Ed25519Signer

FOUND_NS = 77


class HandClock(Protocol):
    now_ns: int


MakeStop = Callable[..., bytes]


@pytest.fixture
def path(tmp_path: Path, latch: Latch) -> Path:
    return tmp_path / "latch"


def reopen(path: Path) -> tuple[dict[bytes, LatchedStop], int]:
    latch, dropped_bytes = open_latch(path, lambda: FOUND_NS)
    latch.close()
    return dict(latch.stops), dropped_bytes


def test_a_stop_is_read_again_with_its_author_and_its_moment(
    latch: Latch, path: Path, make_stop: MakeStop, stop_key: Ed25519Signer
) -> None:
    stop = latch.add(make_stop(b"a" * 16, "service:smars"))
    assert (stop.entry.scope, stop.author) == ("service:smars", stop_key.keyid)
    found, dropped_bytes = reopen(path)
    assert dropped_bytes == 0
    assert found == {b"a" * 16: replace(stop, durable_ns=FOUND_NS)}, "it is durable when it is found, if not before"


def test_a_stop_counts_as_durable_from_after_its_fsync(
    latch: Latch, make_stop: MakeStop, hand_clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waits are counted from that moment: read before a slow fsync they would be too short by its length."""
    synced_ns: list[int] = []

    def take_a_second(descriptor: int) -> None:
        hand_clock.now_ns += 1_000_000_000
        synced_ns.append(hand_clock.now_ns)

    monkeypatch.setattr(os, "fsync", take_a_second)
    assert latch.add(make_stop(b"a" * 16)).durable_ns > synced_ns[0]


def test_the_file_is_synced_before_add_returns(
    latch: Latch, path: Path, make_stop: MakeStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced_bytes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced_bytes.append(os.fstat(descriptor).st_size))
    latch.add(make_stop(b"a" * 16))
    assert synced_bytes == [path.stat().st_size]


def test_adding_a_known_stop_again_keeps_its_first_durability(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    first = latch.add(make_stop(b"a" * 16))
    assert latch.add(make_stop(b"a" * 16)) == first
    assert len(path.read_bytes().splitlines()) == 2, "that it was founded, and one stop"


def test_a_whole_last_line_without_its_newline_counts(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    latch.add(make_stop(b"a" * 16))
    path.write_bytes(path.read_bytes()[:-1])
    assert set(reopen(path)[0]) == {b"a" * 16}
    assert path.read_bytes().endswith(b"\n")


def test_every_torn_last_line_is_dropped_alone_and_the_next_stop_stands_behind_it(
    path: Path, make_stop: MakeStop
) -> None:
    """Goal: no crash while writing costs an older stop. Method: cut the second line at many lengths."""
    latch, _ = open_latch(path, lambda: FOUND_NS)
    latch.add(make_stop(b"a" * 16))
    first = path.read_bytes()
    latch.add(make_stop(b"b" * 16))
    latch.close()
    second = path.read_bytes()[len(first) :]
    for length in [*range(1, len(second) - 1, 29), len(second) - 2]:
        path.write_bytes(first + second[:length])
        latch, dropped_bytes = open_latch(path, lambda: FOUND_NS)
        assert (set(latch.stops), dropped_bytes) == ({b"a" * 16}, length)
        latch.add(make_stop(b"c" * 16))
        latch.close()
        assert set(reopen(path)[0]) == {b"a" * 16, b"c" * 16}


def test_a_changed_bit_in_an_acknowledged_line_refuses_the_file(latch: Latch, path: Path, make_stop: MakeStop) -> None:
    latch.add(make_stop(b"a" * 16))
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with pytest.raises(LatchError, match="damaged line"):
        open_latch(path, lambda: FOUND_NS)


def test_a_missing_latch_is_refused_and_a_second_founding_too(tmp_path: Path, path: Path) -> None:
    with pytest.raises(LatchError, match="restore it"):
        open_latch(tmp_path / "elsewhere", lambda: FOUND_NS)
    with pytest.raises(LatchError, match="new fleet"):
        create_latch(path)


@pytest.mark.parametrize("step", ["os.write", "os.fsync", "os.link"])
def test_a_founding_that_died_at_any_step_leaves_no_file_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An empty file under the final name would count as made by hand for ever."""

    def die(*args: object) -> None:
        raise SystemExit

    place = tmp_path / "new" / "stops"
    place.parent.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(step, die)
        with pytest.raises(SystemExit):
            create_latch(place)
    assert not place.exists()
    create_latch(place)
    latch, _ = open_latch(place, lambda: FOUND_NS)
    assert latch.is_founded
    latch.close()
    assert list(place.parent.iterdir()) == [place]


def test_a_failing_fsync_holds_the_stop_in_memory_and_breaks_the_latch_for_good(
    latch: Latch, make_stop: MakeStop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(LatchError, match="signs nothing more"):
        latch.add(make_stop(b"a" * 16))
    monkeypatch.undo()
    with pytest.raises(LatchError):
        latch.add(make_stop(b"b" * 16))
    assert set(latch.stops) == {b"a" * 16, b"b" * 16}


def test_a_file_made_by_hand_is_told_from_the_founded_one(tmp_path: Path, path: Path, make_stop: MakeStop) -> None:
    """An empty file that replaces a lost one looks as if nothing had ever been stopped."""
    (tmp_path / "by-hand").touch()
    for place, is_founded in ((path, True), (tmp_path / "by-hand", False)):
        for _ in range(2):
            latch, _ = open_latch(place, lambda: FOUND_NS)
            assert latch.is_founded is is_founded
            latch.add(make_stop(b"a" * 16))
            latch.close()
