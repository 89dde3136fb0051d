# SPDX-License-Identifier: Apache-2.0
"""The digest of a directory in one call, as a test wants it."""

from __future__ import annotations

from pathlib import Path

from firecurtain.artifact.digest import compute_tree_digest
from firecurtain.artifact.tree import compute_sha256, read_tree
from firecurtain.terms import Digest


def compute_digest(directory: Path) -> Digest:
    """Read the tree strictly and name it."""
    return compute_tree_digest(read_tree(directory, compute_sha256))
