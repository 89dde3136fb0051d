# SPDX-License-Identifier: Apache-2.0
"""Is a sealed tree still what it was? Modes compared, digest computed anew from the files as they are now.

`ArtifactCheck` is asked once per attest, so it hashes only files whose stat changed. It does not see bytes changed
behind the file system's back: through a shared writable mapping made before sealing, or on the disk below the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from firecurtain.artifact.digest import compute_tree_digest
from firecurtain.artifact.tree import Found, StatKey, Tree, compute_sha256, compute_stat_key, read_tree
from firecurtain.terms import NS_PER_S, ArtifactError, Digest

EXECUTABLE = "0755"  # as a release writes it; a file it does not name is 0644
SEALED_MODE = 0o444
SEALED_EXECUTABLE_MODE = 0o555

# FAT, the coarsest file system we know of, stamps in steps of two seconds. A file changed so shortly before it was
# hashed could be changed again under the same stamp, so its digest is not remembered (git calls this racily clean).
SETTLE_NS = 2 * NS_PER_S


class ArtifactCheck:
    """Re-computes the digest of one sealed tree; remembers at most one digest per file of it.

    Args:
        directory: the real, content-addressed path of the artifact.
        modes: relative path -> "0755" for each executable file, as the signed release says.
    """

    def __init__(self, directory: Path, modes: Mapping[str, str]) -> None:
        self._directory = directory
        self._modes = modes
        self._known: dict[str, tuple[StatKey, Digest]] = {}

    def compute_digest(self, now_utc_ns: int) -> Digest:
        """The digest of the files as they are now.

        Args:
            now_utc_ns: the host's wall clock, read before this call: the clock that stamps its files.
        Raises: ArtifactError: a changed mode, an unreadable or refused file (symbolic link, `.pyc`, empty directory..).
        """
        known: dict[str, tuple[StatKey, Digest]] = {}

        def hash_file(found: Found) -> Digest:
            key = compute_stat_key(found.status)
            remembered = self._known.get(found.path)
            digest = remembered[1] if remembered and remembered[0] == key else compute_sha256(found)
            if found.status.st_ctime_ns + SETTLE_NS <= now_utc_ns:
                known[found.path] = key, digest
            return digest

        tree = read_tree(self._directory, hash_file)
        self._known = known
        raise_unless_sealed(self._directory, tree, self._modes)
        return compute_tree_digest(tree)


def raise_unless_sealed(directory: Path, tree: Tree, modes: Mapping[str, str]) -> None:
    """Check that the tree is read-only and executable exactly where `modes` says. Raises: ArtifactError."""
    for path, mode in tree.directory_modes:
        _raise_unless_mode(directory, path, mode, SEALED_EXECUTABLE_MODE)
    for entry in tree.files:
        is_executable = modes.get(entry.path) == EXECUTABLE
        _raise_unless_mode(directory, entry.path, entry.mode, SEALED_EXECUTABLE_MODE if is_executable else SEALED_MODE)


def _raise_unless_mode(directory: Path, path: str, mode: int, expected: int) -> None:
    if mode != expected:
        raise ArtifactError(
            f"{directory}: {path!r} has mode {mode:04o}, sealed as {expected:04o}. "
            "Find out who changed it, remove the artifact from the store and fetch or seal it again."
        )


def compute_modes(tree: Tree) -> dict[str, str]:
    """The mode facts a release signs: each executable file as "0755"; a file not named is 0644."""
    return {entry.path: EXECUTABLE for entry in tree.files if entry.is_executable}
