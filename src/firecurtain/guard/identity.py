# SPDX-License-Identifier: Apache-2.0
"""Who this process is: the digest of the artifact it was started from, and whether it is still the process that asked.

The digest comes from the path of the code that really runs, never from the page: a page must not be able to tell a
process who it is. It reads no file and proves nothing about the bytes; the agent attests those.
"""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

from firecurtain.artifact.identity import resolve_digest_of_path
from firecurtain.terms import Digest

_MADV_WIPEONFORK = 18  # Linux 4.14; Python 3.11's mmap has no name for it.
_ALIVE = 1


def read_own_artifact(descriptor: int | None = None) -> tuple[Digest | None, str]:
    """The digest of the running artifact, or None, and the path it was read from.

    Args:
        descriptor: an open file or directory of the artifact, inherited from whoever started this process; without it
            the file of `__main__` counts. One that was started through a symbolic link has no digest: the link may
            have been flipped since.
    """
    if descriptor is None:
        path = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    else:
        try:
            path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        except OSError as error:
            return None, f"descriptor {descriptor} ({error})"
    if not path or os.path.realpath(path) != path:
        return None, path
    return resolve_digest_of_path(path), path


def make_fork_canary() -> memoryview:
    """One word that is 1 here and 0 in every child of fork, whoever forked and however: the kernel wipes the page.

    Raises: OSError: a kernel before 4.14.
    """
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.madvise(_MADV_WIPEONFORK)
    canary = memoryview(page).cast("Q")
    canary[0] = _ALIVE
    return canary
