# SPDX-License-Identifier: Apache-2.0
"""What a guard answers: a verdict to look at, a fencing token to carry along, or `Denied`.

Values and texts only. Nothing here reads the page or counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from firecurtain.terms import PermitError, Reason


class Acquired(NamedTuple):
    """The fencing token of a successful acquire. Send it with the effect: a sink refuses one below its floor.

    It comes from the same read of the page that permitted, so it never names a permit that came later.
    """

    ledger_epoch: int
    ledger_seq: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an acquire would answer now. Truthy only when it would succeed.

    >>> bool(ALLOWED), ALLOWED.reason
    (True, 'ok')
    """

    reason: str
    """The stable spelling of a `terms.Reason`; `ok` when allowed."""
    text: str = ""
    """What happened, both values, and what to do next."""
    scope: str = ""
    epoch: int = 0
    """Ledger epoch of the page's content; 0 when there is none."""
    age_ns: int = 0
    """How long ago the permit ended; 0 when it did not end by itself."""

    def __bool__(self) -> bool:
        return self.reason == "ok"


ALLOWED = Verdict(Reason.OK.text)


class Denied(PermitError):  # noqa: N818 - the application's word for it; a denial is a result, not a failure
    """The action may not be done now. Do not send; the text says what to do."""

    code: ClassVar[str] = "denied"

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.text)
        self.verdict = verdict

    # Exceptions are pickled by their arguments, ours by its verdict: a worker pool hands it on whole.
    def __reduce__(self) -> tuple[type[Denied], tuple[Verdict]]:
        return type(self), (self.verdict,)

    @property
    def reason(self) -> str:
        """The stable spelling of why, e.g. `expired` or `effects-per-cause`."""
        return self.verdict.reason

    @property
    def scope(self) -> str:
        """What is denied, e.g. `service:payouts`."""
        return self.verdict.scope

    @property
    def epoch(self) -> int:
        """Ledger epoch of the page's content; 0 when there is none."""
        return self.verdict.epoch

    @property
    def age_ns(self) -> int:
        """How long ago the permit ended; 0 when it did not end by itself."""
        return self.verdict.age_ns
