# SPDX-License-Identifier: Apache-2.0
"""Read a directory tree strictly: every file once, never through a symbolic link, problems named instead of skipped.

Directories are walked by descriptor and files opened relative to them, so that swapping a component for a link while we
read cannot lead outside the tree. It does not know digests of trees or stores.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from firecurtain.artifact.layout import (
    DEPTH_MAX,
    ENTRIES_MAX,
    SIZE_BYTES_MAX,
    Problem,
    find_kind_problem,
    find_name_problem,
    raise_for_problems,
)
from firecurtain.terms import ArtifactError, Digest

CHUNK_BYTES = 1024 * 1024
_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a named pipe put in place of the file must not hold us for ever; regular files ignore it.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Found:
    """One directory or regular file met on the walk; `directory_fd` is open until the walk goes on."""

    path: str
    name: str
    status: os.stat_result
    directory_fd: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of a tree: relative path with '/', digest of its bytes, size and permission bits."""

    path: str
    digest: Digest
    size_bytes: int
    mode: int

    @property
    def is_executable(self) -> bool:
        """Whether its owner may execute it: the only mode fact that a release signs."""
        return bool(self.mode & stat.S_IXUSR)


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree as read: files in the byte order of their paths, and the permission bits of every directory."""

    files: tuple[FileEntry, ...]
    directory_modes: tuple[tuple[str, int], ...]


StatKey = tuple[int, int, int, int, int]


def compute_stat_key(status: os.stat_result) -> StatKey:
    """What must be unchanged for a file's bytes to be called unchanged: (dev, ino, size, mtime_ns, ctime_ns)."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def read_tree(directory: Path, hash_file: Callable[[Found], Digest]) -> Tree:
    """Read the whole tree, asking `hash_file` for each file's digest.

    Raises: LayoutError naming every refused path; ArtifactError: the tree cannot be read or changed meanwhile.
    """
    problems: list[Problem] = []
    files: list[FileEntry] = []
    directory_modes: list[tuple[str, int]] = []
    for found in walk_tree(directory, problems):
        mode = stat.S_IMODE(found.status.st_mode)
        if stat.S_ISDIR(found.status.st_mode):
            directory_modes.append((found.path, mode))
        elif not problems:  # a refused tree is named in full, but its files need no hashing
            files.append(FileEntry(found.path, hash_file(found), found.status.st_size, mode))
    raise_for_problems(str(directory), problems)
    files.sort(key=lambda entry: entry.path.encode())
    return Tree(tuple(files), tuple(directory_modes))


def walk_tree(directory: Path, problems: list[Problem]) -> Iterator[Found]:
    """Yield the directory itself as '.', then everything below it, appending what the strict layout refuses.

    Raises: ArtifactError: a part cannot be read, or vanished meanwhile.
    """
    try:
        top = os.open(directory, _OPEN_DIRECTORY)
    except OSError as error:
        raise ArtifactError(f"{directory} cannot be opened as a directory: {error.strerror}.") from error
    try:
        yield Found(".", ".", os.fstat(top), top)
        yield from _Walk(problems).walk(top, "", depth=1)
    except OSError as error:
        raise ArtifactError(f"{directory} cannot be read: {error}. Nobody may write in it meanwhile.") from error
    finally:
        os.close(top)


class _Walk:
    """One walk: the caps count over the whole tree."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._entries_count = 0
        self._size_bytes = 0

    def walk(self, directory_fd: int, prefix: str, depth: int) -> Iterator[Found]:
        names = sorted(os.listdir(directory_fd))
        if not names:
            # No digest line would speak of it, so it could come and go unseen.
            self._refuse(prefix.rstrip("/") or ".", "is an empty directory", "remove it or put a file into it")
        folded: dict[str, str] = {}
        for raw in names:
            self._count_entry(prefix + raw)
            name = self._accept_name(raw, prefix, folded)
            if name is None:
                continue
            status = os.stat(raw, dir_fd=directory_fd, follow_symlinks=False)
            problem = find_kind_problem(prefix + name, status.st_mode)
            if problem:
                self._problems.append(problem)
            elif stat.S_ISDIR(status.st_mode):
                yield from self._walk_below(Found(prefix + name, raw, status, directory_fd), depth)
            else:
                self._count_bytes(prefix + name, status.st_size)
                yield Found(prefix + name, raw, status, directory_fd)

    def _walk_below(self, found: Found, depth: int) -> Iterator[Found]:
        if depth >= DEPTH_MAX:
            self._refuse(found.path, f"lies {depth} directories deep, at most {DEPTH_MAX - 1}", "flatten the tree")
            return
        yield found
        below = os.open(found.name, _OPEN_DIRECTORY, dir_fd=found.directory_fd)
        try:
            yield from self.walk(below, found.path + "/", depth + 1)
        finally:
            os.close(below)

    def _accept_name(self, raw: str, prefix: str, folded: dict[str, str]) -> str | None:
        try:
            name = os.fsencode(raw).decode("utf-8")
        except UnicodeDecodeError:
            self._refuse(repr(prefix + raw), "has a name that is not UTF-8", "rename it")
            return None
        problem = find_name_problem(prefix + name, name)
        if problem:
            self._problems.append(problem)
            return None
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            self._refuse(prefix + name, f"differs from {prefix + twin!r} only in upper and lower case", "rename one")
            return None
        return name

    def _count_entry(self, path: str) -> None:
        self._entries_count += 1
        if self._entries_count > ENTRIES_MAX:
            raise ArtifactError(f"over {ENTRIES_MAX} files and directories, up to {path!r}. Ship data elsewhere.")

    def _count_bytes(self, path: str, size_bytes: int) -> None:
        self._size_bytes += size_bytes
        if self._size_bytes > SIZE_BYTES_MAX:
            raise ArtifactError(
                f"{self._size_bytes} bytes up to {path!r}, an artifact holds {SIZE_BYTES_MAX}. Ship data elsewhere."
            )

    def _refuse(self, path: str, what: str, fix: str) -> None:
        self._problems.append(Problem(path, what, fix))


def read_chunks(found: Found) -> Iterator[bytes]:
    """Read one file in pieces and prove at the end that it stayed the file that the walk met.

    Raises: ArtifactError: it cannot be read, or was replaced or written while it was read.
    """
    try:
        descriptor = os.open(found.name, _OPEN_FILE, dir_fd=found.directory_fd)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            _raise_if_changed(found, os.fstat(descriptor))
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
            _raise_if_changed(found, os.fstat(descriptor))
    except OSError as error:
        raise ArtifactError(f"{found.path!r} cannot be read: {error.strerror}. Let this user read it.") from error


def _raise_if_changed(found: Found, now: os.stat_result) -> None:
    before, after = compute_stat_key(found.status), compute_stat_key(now)
    if before != after:
        raise ArtifactError(
            f"{found.path!r} changed while it was read: (dev, inode, size, mtime, ctime) {before} became {after}. "
            "Stop whoever writes there and try again."
        )


def compute_sha256(found: Found) -> Digest:
    """The sha256 of one file's bytes as they are now. Raises: ArtifactError."""
    digest = hashlib.sha256()
    for chunk in read_chunks(found):
        digest.update(chunk)
    return Digest(digest.hexdigest())
