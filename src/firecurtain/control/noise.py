# SPDX-License-Identifier: Apache-2.0
"""What strangers send and ask for: told without filling the log, answered only where an answer can do no harm.

Whoever may publish at all could otherwise write a line into our log with every message, or have us speak where the
broker refuses us, which costs a beacon. This module judges no signature.
"""

from __future__ import annotations

import re

import structlog

from firecurtain.terms import FirecurtainError

_log = structlog.get_logger("firecurtain.noise")
_INBOX = re.compile(r"_INBOX(\.[A-Za-z0-9_-]+)+")


def is_inbox(subject: str) -> bool:
    """Whether an answer may go there: an inbox, spelt out. A reply subject is the asker's word and nobody checked it.

    >>> [is_inbox(subject) for subject in ("_INBOX.host-8.x7", "_INBOX..x", "_INBOX.>", "fc.knight.down.stop", "")]
    [True, False, False, False, False]
    """
    return _INBOX.fullmatch(subject) is not None


class Refused:
    """The messages of one desk that were refused. Each kind of trouble is named at 1, 2, 4, 8 …"""

    def __init__(self, event: str) -> None:
        self._event = event
        self._counts: dict[str, int] = {}

    def tell(self, error: FirecurtainError, subject: str) -> None:
        """Count one; `error.code` is of a fixed list, so the counts are bounded."""
        count = self._counts[error.code] = self._counts.get(error.code, 0) + 1
        if count & (count - 1) == 0:
            _log.warning(self._event, code=error.code, error=str(error), subject=subject, count=count)
