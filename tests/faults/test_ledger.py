# SPDX-License-Identifier: Apache-2.0
"""The ledger and its checked copy out of step: what only lags is caught up, what contradicts is refused by name.

A flipped bit in the stream, at rest and under a running control plane, is in tests/cli/test_control_plane.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.operated import Fleet

COPY = "ledger.sqlite*"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet whose state was copied twice: `first` knows host-1, `second` also host-2. Nothing of it runs."""
    fleet = Fleet(tmp_path_factory.mktemp("kept") / "fleet")
    fleet.init()
    try:
        for name, moment in (("host-1", "first"), ("host-2", "second")):
            up = fleet.up()
            fleet.enrol(name)
            assert up.end() == 0
            shutil.copytree(fleet.directory / "state", fleet.directory / moment)
        yield fleet
    finally:
        fleet.end()


@pytest.fixture
def state(kept: Fleet) -> Path:
    """The newer state, to be spoilt."""
    shutil.rmtree(kept.directory / "state")
    return Path(shutil.copytree(kept.directory / "second", kept.directory / "state"))


def remove_copy(state: Path) -> None:
    for path in state.glob(COPY):
        path.unlink()


def start_and_list(kept: Fleet) -> list[str]:
    up = kept.up()
    names = [node["name"] for node in kept.ask("node", "list")["nodes"]]
    assert kept.ask("ledger", "verify")["verdict"] == "whole"
    assert up.end() == 0
    return names


def refuse_start(kept: Fleet) -> str:
    done = kept.run("up")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_deleted_copy_is_made_anew_from_a_whole_stream(kept: Fleet, state: Path) -> None:
    remove_copy(state)
    assert start_and_list(kept) == ["host-1", "host-2"]


def test_an_older_copy_takes_over_what_it_lacks(kept: Fleet, state: Path) -> None:
    remove_copy(state)
    for path in (kept.directory / "first").glob(COPY):
        shutil.copy2(path, state)
    assert start_and_list(kept) == ["host-1", "host-2"]


def test_a_stream_restored_from_an_older_backup_is_refused_with_both_ends(kept: Fleet, state: Path) -> None:
    shutil.rmtree(state / "broker" / "store")
    shutil.copytree(kept.directory / "first" / "broker" / "store", state / "broker" / "store")
    error = refuse_start(kept)
    assert "ledger-damaged" in error
    assert "2" in error
    assert "3" in error
    verified = kept.ask("ledger", "verify", code=1)
    assert (verified["verdict"], verified["stream_last"], verified["copy_last"]) == ("shortened", 2, 3)


def test_a_stream_that_was_deleted_is_refused(kept: Fleet, state: Path) -> None:
    shutil.rmtree(state / "broker" / "store")
    error = refuse_start(kept)
    assert "ledger-damaged" in error
    assert "Do" in error or "restore" in error.lower()


def test_a_copy_with_one_changed_byte_is_refused_and_says_which_file_to_move(kept: Fleet, state: Path) -> None:
    path = state / "ledger.sqlite"
    data = bytearray(path.read_bytes())
    at = data.index(b"host-1")
    data[at] ^= 1
    path.write_bytes(data)
    error = refuse_start(kept)
    assert "ledger-damaged" in error
    assert str(path) in error
    assert "move the file away" in error
    path.rename(state / "moved-away")
    assert start_and_list(kept) == ["host-1", "host-2"], "doing as it says mends it"
