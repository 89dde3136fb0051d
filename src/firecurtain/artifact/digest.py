# SPDX-License-Identifier: Apache-2.0
"""The name of a tree: in-toto dirHash1, the sha256 of its `sha256sum` listing in byte order.

Anyone can compute it without us: inside the directory, `find . -type f -print0 | cut -z -c3- | LC_ALL=C sort -z |
xargs -0 -r sha256sum | sha256sum`. The listing is the MANIFEST. File modes are not part of it; a release signs them.
Source: in-toto attestation v1, digest set "dirHash1".
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from firecurtain.artifact.tree import Tree
from firecurtain.terms import ArtifactError, Digest


def compute_tree_digest(tree: Tree) -> Digest:
    """The dirHash1 of a tree already read: the sha256 of its manifest."""
    return Digest(hashlib.sha256(encode_manifest(tree)).hexdigest())


def encode_manifest(tree: Tree) -> bytes:
    """The listing that `sha256sum -c` checks from inside the artifact's directory."""
    return "".join(f"{entry.digest}  {entry.path}\n" for entry in tree.files).encode()


def compute_file_digest(path: Path) -> Digest:
    """The sha256 of one file, links followed: of an interpreter, say. Raises: ArtifactError."""
    try:
        with path.open("rb") as file:
            return Digest(hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise ArtifactError(
            f"{path} cannot be hashed: {error.strerror}. Name a file that this user may read."
        ) from error
