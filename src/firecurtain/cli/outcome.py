# SPDX-License-Identifier: Apache-2.0
"""Exit codes and how an error is shown: what happened, both values, what to do; no traceback for the world's fault.

With --json the same facts are one JSON object on standard output. Imports little because `halt` waits for it.
"""

from __future__ import annotations

import json
import sys

from firecurtain.terms import FirecurtainError, Refusal

OK = 0
REFUSED = 1
UNDECIDED = 2


class CommandRefused(Refusal):
    """The control plane refused; `refused_by` is the stable code of the rule that did, `ledger_seq` where it stands."""

    code = "refused-by-control"

    def __init__(self, refused_by: str, text: str, ledger_seq: int) -> None:
        super().__init__(text)
        self.refused_by = refused_by
        self.ledger_seq = ledger_seq


def show(result: dict[str, object], text: str, as_json: bool) -> None:
    """Print one result for a program or for a person."""
    sys.stdout.write((json.dumps(result, sort_keys=True) if as_json else text) + "\n")
    sys.stdout.flush()


def fail(error: FirecurtainError, as_json: bool) -> int:
    """Print an error and return its exit code: 1 when somebody decided no, 2 when nobody could decide."""
    code = error.refused_by if isinstance(error, CommandRefused) else error.code
    result: dict[str, object] = {"ok": False, "code": code, "text": str(error)}
    if isinstance(error, CommandRefused):
        result["ledger_seq"] = error.ledger_seq
    if as_json:
        show(result, "", as_json=True)
    place = f" (ledger_seq {error.ledger_seq})" if isinstance(error, CommandRefused) and error.ledger_seq else ""
    sys.stderr.write(f"firecurtain: {code}: {error}{place}\n")
    return REFUSED if isinstance(error, Refusal) else UNDECIDED
