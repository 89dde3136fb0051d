# SPDX-License-Identifier: Apache-2.0
"""Which artifact a path belongs to: its store's content-addressed component, read from the real path.

The guard learns its own digest here, from the file that was really started. It reads no file and proves nothing about
the bytes: the agent attests those.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath

from firecurtain.terms import Digest

_DIGEST = re.compile(r"[0-9a-f]{64}")


def resolve_digest_of_path(path: str | os.PathLike[str]) -> Digest | None:
    """Find the artifact that `path` lies in; None when it lies in no store.

    Links are resolved first: a `current` link that was flipped must not rename the code of a running process. The
    innermost digest-like component counts, because the strict layout lets no artifact hold such a name.

    >>> resolve_digest_of_path("/srv/store/" + "9f2c" * 16 + "/router.py")[:8]
    '9f2c9f2c'
    >>> resolve_digest_of_path("/srv/app/router.py")
    """
    for part in reversed(PurePath(os.path.realpath(path)).parts):
        if _DIGEST.fullmatch(part):
            return Digest(part)
    return None
