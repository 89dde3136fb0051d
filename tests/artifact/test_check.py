# SPDX-License-Identifier: Apache-2.0
"""An unchanged artifact costs stats; whatever changes in it shows at the next look."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecurtain.artifact import check as check_module
from firecurtain.artifact.check import SETTLE_NS, ArtifactCheck
from firecurtain.artifact.seal import Sealed, seal
from firecurtain.artifact.tree import Found, compute_sha256
from firecurtain.terms import ArtifactError, Digest


@pytest.fixture
def sealed(service: Path, store: Path) -> Sealed:
    return seal(service, store)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files that were really read, in order."""
    paths: list[str] = []

    def compute_and_note(found: Found) -> Digest:
        paths.append(found.path)
        return compute_sha256(found)

    monkeypatch.setattr(check_module, "compute_sha256", compute_and_note)
    return paths


def compute_settled_now(sealed: Sealed) -> int:
    """A moment at which every file of the artifact has been at rest for just long enough."""
    return max(path.stat().st_ctime_ns for path in sealed.path.rglob("*")) + SETTLE_NS


def test_unchanged_tree_is_hashed_once(sealed: Sealed, hashed: list[str]) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    now = compute_settled_now(sealed)
    assert check.compute_digest(now) == sealed.digest
    assert len(hashed) == 4
    assert check.compute_digest(now) == sealed.digest
    assert len(hashed) == 4


def write_through(path: Path, content: bytes) -> None:
    """Change a file as root would: neither its mode nor its directory entry changes."""
    with path.open("r+b") as file:
        file.write(content)


def test_one_flipped_byte_changes_the_digest_at_the_next_look(sealed: Sealed, hashed: list[str]) -> None:
    if os.geteuid() != 0:
        (sealed.path / "router.py").chmod(0o644)
    check = ArtifactCheck(sealed.path, sealed.modes)
    now = compute_settled_now(sealed)
    check.compute_digest(now)
    status = (sealed.path / "router.py").stat()
    write_through(sealed.path / "router.py", b"G")
    os.utime(sealed.path / "router.py", ns=(status.st_atime_ns, status.st_mtime_ns))  # size and mtime as before
    (sealed.path / "router.py").chmod(0o444)
    assert check.compute_digest(now) != sealed.digest
    assert hashed[4:] == ["router.py"]


def make_writable_and_add(path: Path) -> None:
    path.chmod(0o755)
    (path / "extra.py").touch()
    (path / "extra.py").chmod(0o444)
    path.chmod(0o555)


def remove(path: Path) -> None:
    path.chmod(0o755)
    (path / "router.py").unlink()
    path.chmod(0o555)


def rename_over(path: Path) -> None:
    path.chmod(0o755)
    (path.parent / "twin").write_bytes((path / "router.py").read_bytes().replace(b"F", b"G"))
    (path.parent / "twin").chmod(0o444)
    (path.parent / "twin").rename(path / "router.py")
    path.chmod(0o555)


def exchange(path: Path) -> None:
    path.chmod(0o755)
    (path / "router.py").rename(path / "swap")
    (path / "lib" / "orders.py").rename(path / "router.py")
    (path / "swap").rename(path / "lib" / "orders.py")
    path.chmod(0o555)


@pytest.mark.parametrize("change", [make_writable_and_add, remove, rename_over, exchange])
def test_file_added_missing_replaced_or_exchanged_is_another_digest(
    sealed: Sealed, change: Callable[[Path], None]
) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    now = compute_settled_now(sealed)
    assert check.compute_digest(now) == sealed.digest
    (sealed.path / "lib").chmod(0o755)
    change(sealed.path)
    (sealed.path / "lib").chmod(0o555)
    assert check.compute_digest(now) != sealed.digest


@pytest.mark.parametrize(
    ("name", "mode", "text"),
    [
        ("router.py", 0o644, "'router.py' has mode 0644, sealed as 0444"),
        ("router.py", 0o555, "'router.py' has mode 0555, sealed as 0444"),
        ("start.sh", 0o444, "'start.sh' has mode 0444, sealed as 0555"),
        ("start.sh", 0o4555, "'start.sh' has mode 4555, sealed as 0555"),
        ("lib", 0o755, "'lib' has mode 0755, sealed as 0555"),
        (".", 0o777, "'.' has mode 0777, sealed as 0555"),
    ],
)
def test_changed_mode_is_an_error_that_names_both(sealed: Sealed, name: str, mode: int, text: str) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    (sealed.path / name).chmod(mode)
    with pytest.raises(ArtifactError, match=text):
        check.compute_digest(compute_settled_now(sealed))


def test_modes_are_those_of_the_release_not_of_the_store(sealed: Sealed) -> None:
    with pytest.raises(ArtifactError, match=r"'start\.sh' has mode 0555, sealed as 0444"):
        ArtifactCheck(sealed.path, {}).compute_digest(0)


def test_file_replaced_by_a_link_to_the_same_bytes_is_refused(sealed: Sealed, tmp_path: Path) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    check.compute_digest(compute_settled_now(sealed))
    sealed.path.chmod(0o755)
    (sealed.path / "router.py").rename(tmp_path / "elsewhere.py")
    (sealed.path / "router.py").symlink_to(tmp_path / "elsewhere.py")
    sealed.path.chmod(0o555)
    with pytest.raises(ArtifactError, match=r"'router\.py' is a symbolic link"):
        check.compute_digest(compute_settled_now(sealed))


def test_vanished_artifact_is_an_error(sealed: Sealed) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    sealed.path.rename(sealed.path.with_name("gone"))
    with pytest.raises(ArtifactError, match="cannot be opened as a directory"):
        check.compute_digest(0)


def is_second_change_in_one_tick_seen(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> bool:
    """On a file system whose stamps all fall into one tick: hash, change without changing the size, look again."""
    monkeypatch.setattr(check_module, "compute_stat_key", lambda status: (status.st_dev, status.st_ino, 0, 0, 0))
    check = ArtifactCheck(sealed.path, sealed.modes)
    first = check.compute_digest((sealed.path / "router.py").stat().st_ctime_ns)
    (sealed.path / "router.py").chmod(0o644)
    write_through(sealed.path / "router.py", b"G")
    (sealed.path / "router.py").chmod(0o444)
    return check.compute_digest((sealed.path / "router.py").stat().st_ctime_ns) != first


def test_second_change_within_one_clock_tick_is_seen(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_second_change_in_one_tick_seen(sealed, monkeypatch)


def test_planted_fault_without_settling_time_is_caught(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_module, "SETTLE_NS", 0)
    assert not is_second_change_in_one_tick_seen(sealed, monkeypatch)


def test_file_is_remembered_once_it_rested_and_not_a_nanosecond_before(sealed: Sealed, hashed: list[str]) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    youngest = max(path.stat().st_ctime_ns for path in sealed.path.rglob("*") if path.is_file())
    check.compute_digest(youngest + SETTLE_NS - 1)
    seen = len(hashed)
    check.compute_digest(youngest + SETTLE_NS)
    assert len(hashed) > seen
    seen = len(hashed)
    check.compute_digest(youngest + SETTLE_NS)
    assert len(hashed) == seen


def test_memory_holds_only_files_of_the_tree(sealed: Sealed) -> None:
    check = ArtifactCheck(sealed.path, sealed.modes)
    now = compute_settled_now(sealed)
    check.compute_digest(now)
    assert set(check._known) == {"lib/empty.txt", "lib/orders.py", "router.py", "start.sh"}
    remove(sealed.path)
    check.compute_digest(now)
    assert set(check._known) == {"lib/empty.txt", "lib/orders.py", "start.sh"}


edits = st.lists(
    st.tuples(st.sampled_from(["router.py", "lib/orders.py", "start.sh"]), st.binary(min_size=1, max_size=8)),
    max_size=6,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=edits)
def test_remembering_never_changes_the_answer(
    service: Path, tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[str, bytes]]
) -> None:
    """Law: after any sequence of edits, real time stamps and all, memory and a fresh look agree."""
    sealed = seal(service, tmp_path_factory.mktemp("law"))
    remembering = ArtifactCheck(sealed.path, sealed.modes)
    for path, content in edits:
        now = compute_settled_now(sealed) - SETTLE_NS + SETTLE_NS // 2
        assert remembering.compute_digest(now) == ArtifactCheck(sealed.path, sealed.modes).compute_digest(0)
        target = sealed.path / path
        mode = target.stat().st_mode
        target.chmod(0o644)
        target.write_bytes(content)
        target.chmod(mode)
    now = compute_settled_now(sealed)
    assert remembering.compute_digest(now) == ArtifactCheck(sealed.path, sealed.modes).compute_digest(0)
