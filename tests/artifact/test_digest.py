# SPDX-License-Identifier: Apache-2.0
"""The digest is the shell's digest, and a tree that two tools could read differently has none."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firecurtain.artifact.digest import compute_file_digest
from firecurtain.artifact.identity import resolve_digest_of_path
from firecurtain.artifact.layout import LayoutError, find_name_problem
from firecurtain.artifact.tree import compute_sha256, read_tree, walk_tree
from firecurtain.terms import ArtifactError
from support.trees import compute_digest

PIPELINE = "find . -type f -print0 | cut -z -c3- | LC_ALL=C sort -z | xargs -0 -r sha256sum | sha256sum | cut -d' ' -f1"


def run_shell(command: str, directory: Path) -> str:
    words = ["bash", "-o", "pipefail", "-c", command]
    return subprocess.run(words, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def compute_by_shell(directory: Path) -> str:
    return run_shell(PIPELINE, directory)


def test_digest_equals_the_shell_pipeline_for_odd_names(tmp_path: Path) -> None:
    for name in ("a b.py", "übung/ñ.txt", "日本/語.bin", "a/b-c", "a.b", "a/b.c", "A0", "quote'\"$x.sh", "-dir/x", " "):
        path = tmp_path / "tree" / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 3)
    assert compute_digest(tmp_path / "tree") == compute_by_shell(tmp_path / "tree")


def is_plain(name: str) -> bool:
    return find_name_problem("d/" + name, name) is None and len(name.encode()) < 200


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
trees = st.dictionaries(
    st.tuples(names.filter(is_plain), names.filter(is_plain)),
    st.binary(max_size=50),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=trees)
def test_digest_equals_the_shell_pipeline_for_any_accepted_tree(
    tmp_path: Path, tree: dict[tuple[str, str], bytes]
) -> None:
    root = tmp_path / "tree"
    shutil.rmtree(root, ignore_errors=True)
    for (directory, name), content in tree.items():
        if directory in (".", "..") or name in (".", ".."):
            continue
        (root / "d" / directory).mkdir(parents=True, exist_ok=True)
        (root / "d" / directory / name).write_bytes(content)
    try:
        digest = compute_digest(root)
    except (LayoutError, ArtifactError):
        return  # names that fold together, or an empty draw
    assert digest == compute_by_shell(root)


def test_content_name_and_place_each_change_the_digest(service: Path) -> None:
    digests = {compute_digest(service)}
    (service / "router.py").write_text("other\n")
    digests.add(compute_digest(service))
    (service / "router.py").rename(service / "router2.py")
    digests.add(compute_digest(service))
    (service / "router2.py").rename(service / "lib" / "router2.py")
    digests.add(compute_digest(service))
    assert len(digests) == 4


def test_mode_and_time_are_not_part_of_the_digest(service: Path) -> None:
    before = compute_digest(service)
    (service / "router.py").chmod(0o755)
    os.utime(service / "router.py", (1, 1))
    assert compute_digest(service) == before


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


REFUSED = {
    "link": (lambda p: (p / "link").symlink_to("router.py"), "is a symbolic link", "replace it by a copy"),
    "pipe": (lambda p: os.mkfifo(p / "pipe"), "is a named pipe", "create it at run time"),
    "sock": (lambda p: make_socket(p / "sock"), "is a socket", "create it at run time"),
    "hollow": (lambda p: (p / "hollow").mkdir(), "is an empty directory", "remove it or put a file into it"),
    "old.pyc": (lambda p: (p / "old.pyc").touch(), "is compiled Python", "run Python with -B"),
    "__pycache__": (lambda p: (p / "__pycache__").mkdir(), "is compiled Python", "run Python with -B"),
    "e\u0301.txt": (lambda p: (p / "e\u0301.txt").touch(), "not in Unicode normal form C", "é.txt"),
    "a\\nb": (lambda p: (p / "a\nb").touch(), "control character", "U+000A"),
    "tab\\there": (lambda p: (p / "tab\there").touch(), "control character", "U+0009"),
    "back\\\\slash": (lambda p: (p / "back\\slash").touch(), "backslash", "without the backslash"),
    "\\u202egpj.sh": (lambda p: (p / "\u202egpj.sh").touch(), "invisible formatting character", "U+202E"),
    "ROUTER.py": (lambda p: (p / "ROUTER.py").touch(), "only in upper and lower case", "rename"),
    "-rf": (lambda p: (p / "-rf").touch(), "starts with '-'", "rename it"),
    "9f2c" * 16: (lambda p: (p / ("9f2c" * 16)).touch(), "store's own directory", "rename it"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_file_is_named_with_its_fix(service: Path, name: str) -> None:
    plant, what, fix = REFUSED[name]
    plant(service)
    with pytest.raises(LayoutError) as refusal:
        compute_digest(service)
    text = str(refusal.value)
    named = "router.py" if name == "ROUTER.py" else name  # the twin that sorts later is the one named as refused
    assert named in text
    assert what in text
    assert fix in text
    assert "1 refused" in text


def test_name_that_is_not_utf8_is_refused(service: Path) -> None:
    (Path(os.fsdecode(os.fsencode(service) + b"/bad\xff"))).touch()
    with pytest.raises(LayoutError, match="not UTF-8"):
        compute_digest(service)


def test_every_problem_is_named_at_once(service: Path) -> None:
    for name in REFUSED:
        REFUSED[name][0](service)
    with pytest.raises(LayoutError, match=f"{len(REFUSED)} refused") as refusal:
        compute_digest(service)
    assert str(refusal.value).count(". Do: ") == len(REFUSED)


def test_empty_directory_and_file_are_no_artifact(tmp_path: Path) -> None:
    (tmp_path / "hollow").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(LayoutError, match=r"'\.' is an empty directory"):
        compute_digest(tmp_path / "hollow")
    with pytest.raises(ArtifactError, match="cannot be opened as a directory"):
        compute_digest(tmp_path / "file")
    with pytest.raises(ArtifactError, match="cannot be opened as a directory"):
        compute_digest(tmp_path / "absent")


def test_link_to_a_directory_is_not_followed_at_the_top(service: Path, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(service)
    with pytest.raises(ArtifactError, match="cannot be opened as a directory"):
        compute_digest(tmp_path / "current")


def test_caps_refuse_one_too_many(service: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries_count, size_bytes = 5, sum(path.stat().st_size for path in service.rglob("*") if path.is_file())
    monkeypatch.setattr("firecurtain.artifact.tree.ENTRIES_MAX", entries_count)
    monkeypatch.setattr("firecurtain.artifact.tree.SIZE_BYTES_MAX", size_bytes)
    monkeypatch.setattr("firecurtain.artifact.tree.DEPTH_MAX", 2)
    compute_digest(service)
    (service / "router.py").write_text((service / "router.py").read_text() + "#")
    with pytest.raises(ArtifactError, match=f"{size_bytes + 1} bytes"):
        compute_digest(service)
    monkeypatch.setattr("firecurtain.artifact.tree.SIZE_BYTES_MAX", size_bytes + 1)
    (service / "lib" / "one_more").touch()
    with pytest.raises(ArtifactError, match="over 5 files"):
        compute_digest(service)
    monkeypatch.setattr("firecurtain.artifact.tree.DEPTH_MAX", 1)
    with pytest.raises(LayoutError, match="lies 1 directories deep"):
        compute_digest(service)


def test_file_written_while_it_is_read_is_refused(service: Path) -> None:
    for found in walk_tree(service, []):
        if found.name == "router.py":
            (service / "router.py").write_text("changed under our eyes\n")
            with pytest.raises(ArtifactError, match=r"'router\.py' changed while it was read"):
                compute_sha256(found)
            break


@pytest.mark.parametrize("swap", ["link", "pipe", "gone"])
def test_file_swapped_between_stat_and_open_is_refused(service: Path, swap: str) -> None:
    for found in walk_tree(service, []):
        if found.name == "router.py":
            (service / "router.py").unlink()
            if swap == "link":
                (service / "router.py").symlink_to("/etc/hostname")
            elif swap == "pipe":
                os.mkfifo(service / "router.py")
            with pytest.raises(ArtifactError, match=r"'router\.py' (cannot be read|changed while it was read)"):
                compute_sha256(found)
            break


def test_walk_leaves_no_descriptor_open(service: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    read_tree(service, compute_sha256)
    (service / "pipe").touch()
    walk = walk_tree(service, [])
    next(walk)
    next(walk)
    walk.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_file_digest_is_sha256_and_a_missing_file_says_so(service: Path) -> None:
    assert compute_file_digest(service / "start.sh") == run_shell("sha256sum start.sh", service).split()[0]
    with pytest.raises(ArtifactError, match="cannot be hashed: No such file"):
        compute_file_digest(service / "absent")


def test_path_through_a_link_resolves_to_the_artifact_really_meant(tmp_path: Path) -> None:
    old, new = tmp_path / ("0" * 64), tmp_path / ("f" * 64)
    for directory in (old, new):
        (directory / "lib").mkdir(parents=True)
        (directory / "lib" / "main.py").touch()
    (tmp_path / "current").symlink_to(new)
    assert resolve_digest_of_path(tmp_path / "current" / "lib" / "main.py") == "f" * 64
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(old)
    assert resolve_digest_of_path(tmp_path / "current" / "lib" / "main.py") == "0" * 64
    assert resolve_digest_of_path(tmp_path / "lib") is None


def test_innermost_digest_component_names_the_artifact(tmp_path: Path) -> None:
    # A container's own layer directory may look like a digest too; an artifact never holds one.
    assert resolve_digest_of_path("/overlay/" + "1" * 64 + "/merged/store/" + "2" * 64 + "/a.py") == "2" * 64
