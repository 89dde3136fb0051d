# SPDX-License-Identifier: Apache-2.0
"""Seal a directory: copy it, verified and read-only, into a store under its own digest, or leave no trace of trying.

`store/<digest>/` is the tree and `store/<digest>.MANIFEST` the list that `sha256sum -c` checks from inside it; the
list lies beside the tree, because inside it would change the digest. Everything is fsynced before the one rename that
makes it visible. Sealing signs nothing and removes nothing that was sealed before.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedWriter
from pathlib import Path
from typing import ClassVar

from firecurtain.artifact.census import compute_census
from firecurtain.artifact.check import SEALED_EXECUTABLE_MODE, SEALED_MODE, compute_modes, raise_unless_sealed
from firecurtain.artifact.digest import compute_file_digest, compute_tree_digest, encode_manifest
from firecurtain.artifact.layout import Problem, raise_for_problems
from firecurtain.artifact.tree import FileEntry, Found, Tree, compute_sha256, read_chunks, read_tree, walk_tree
from firecurtain.terms import ArtifactError, Digest, FlagToken, short

_COPYING = ".sealing"  # one name is enough: sealing holds the store's lock, so a leftover belongs to a dead process
_MANIFEST_COPYING = ".sealing.MANIFEST"


class StoreError(ArtifactError):
    """The store cannot take the artifact, or what it holds is damaged."""

    code: ClassVar[str] = "artifact-store"


@dataclass(frozen=True, slots=True)
class Sealed:
    """The facts of a sealed artifact that a release signs.

    `modes` names the executable files ("0755"; every other file is 0644), `tokens` every flag token in its bytes,
    `interpreter` the sha256 of the interpreter that is to run it.
    """

    digest: Digest
    path: Path
    manifest: Path
    files: tuple[FileEntry, ...]
    modes: Mapping[str, str]
    tokens: tuple[FlagToken, ...]
    interpreter: Digest


def seal(directory: Path, store: Path, interpreter: Path | None = None) -> Sealed:
    """Seal `directory` into `store`; doing it twice gives the same artifact once.

    Args:
        directory: the tree to seal; it stays as it is.
        store: created when missing; the copy is made on its file system.
        interpreter: the binary that is to run the artifact; by default the one running now.
    Raises: LayoutError naming every refused file; StoreError: no space, a damaged or differently sealed twin.
    """
    source = Path(os.path.realpath(directory))
    tree = read_tree(source, compute_sha256)
    digest = compute_tree_digest(tree)
    with _locked(store, source) as place:
        if not (place / digest).exists():
            _copy_in(source, place, digest, tree)
        sealed = read_sealed(place, digest, interpreter)
    if sealed.modes != compute_modes(tree):
        raise StoreError(
            f"{place / digest} is executable at {sorted(sealed.modes)}, {source} at {sorted(compute_modes(tree))}: one "
            "digest cannot have two sets of modes. Give both trees the same modes, or change a file."
        )
    return sealed


def read_sealed(store: Path, digest: Digest, interpreter: Path | None = None) -> Sealed:
    """Re-hash an artifact of the store and return its facts.

    Raises: StoreError: its files or manifest are not those of `digest`; ArtifactError: it is missing or was opened up.
    """
    path, manifest = store / digest, store / f"{digest}.MANIFEST"
    tree = read_tree(path, compute_sha256)
    modes = compute_modes(tree)
    raise_unless_sealed(path, tree, modes)
    actual = compute_tree_digest(tree)
    if actual != digest:
        raise StoreError(f"{path} now has digest {actual}. Remove it from the store, then seal or fetch it again.")
    if not manifest.is_file() or manifest.read_bytes() != encode_manifest(tree):
        raise StoreError(f"{manifest} is missing or lists other files than {path}. Remove both, then seal again.")
    binary = compute_file_digest(interpreter or Path(sys.executable))
    return Sealed(digest, path, manifest, tree.files, modes, compute_census(path), binary)


@contextmanager
def _locked(store: Path, source: Path) -> Iterator[Path]:
    """Hold the store's lock and turn the world's errors into a StoreError with the figures a person needs."""
    place = Path(os.path.realpath(store))
    if place.is_relative_to(source):
        raise StoreError(f"store {place} lies inside {source}: it would be sealed too. Put the store elsewhere.")
    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield place
        finally:
            os.close(lock)
    except OSError as error:
        free = shutil.disk_usage(place).free if place.is_dir() else 0
        raise StoreError(
            f"{source} is not sealed: {error}; {place} has {free} bytes free. Mend that, seal again."
        ) from error


def _copy_in(source: Path, place: Path, digest: Digest, tree: Tree) -> None:
    copy = place / _COPYING
    try:
        _remove_copy(place)
        _copy_tree(source, copy)
        copied = read_tree(copy, compute_sha256)
        written = compute_tree_digest(copied)
        if written != digest:
            raise StoreError(
                f"{source} changed while it was sealed: {short(digest)} when hashed, {short(written)} when copied. "
                "Stop whoever writes there and seal again."
            )
        raise_unless_sealed(copy, copied, compute_modes(tree))
        _write_manifest(place, digest, tree)
        copy.rename(place / digest)
        _fsync(place)
    finally:
        _remove_copy(place)


def _copy_tree(source: Path, copy: Path) -> None:
    directories: list[Path] = []
    problems: list[Problem] = []
    for found in walk_tree(source, problems):
        if stat.S_ISDIR(found.status.st_mode):
            directories.append(copy / found.path)
            directories[-1].mkdir(mode=0o700)
        else:
            _copy_file(found, copy / found.path)
    raise_for_problems(str(source), problems)
    for directory in reversed(directories):  # children before their parents
        directory.chmod(SEALED_EXECUTABLE_MODE)
        _fsync(directory)


def _copy_file(found: Found, target: Path) -> None:
    with target.open("xb") as file:
        for chunk in read_chunks(found):
            file.write(chunk)
        _finish(file, SEALED_EXECUTABLE_MODE if found.status.st_mode & stat.S_IXUSR else SEALED_MODE)


def _finish(file: BufferedWriter, mode: int) -> None:
    file.flush()
    os.fchmod(file.fileno(), mode)
    os.fsync(file.fileno())


def _write_manifest(place: Path, digest: Digest, tree: Tree) -> None:
    # Written before the tree becomes visible: a list without a tree harms nobody, a tree without its list might.
    copy = place / _MANIFEST_COPYING
    copy.unlink(missing_ok=True)
    with copy.open("xb") as file:
        file.write(encode_manifest(tree))
        _finish(file, SEALED_MODE)
    copy.replace(place / f"{digest}.MANIFEST")


def _fsync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_copy(place: Path) -> None:
    copy = place / _COPYING
    (place / _MANIFEST_COPYING).unlink(missing_ok=True)
    if not copy.exists():
        return
    for directory, _, _ in os.walk(copy):
        Path(directory).chmod(0o700)  # a closed directory cannot be emptied by anyone but root
    shutil.rmtree(copy)
