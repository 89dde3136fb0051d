# SPDX-License-Identifier: Apache-2.0
"""Single-use challenges: a recorded command is worthless, because the challenge in it is spent or unknown.

They live in memory only: a restarted control plane knows none, so nothing signed for its predecessor is obeyed. This
module reads no clock and draws no random bytes; both are arguments.
"""

from __future__ import annotations

from firecurtain.terms import NS_PER_S, Refusal

CHALLENGES_MAX = 1024
"""Chosen: far beyond the people of one fleet; a flood pushes out the oldest, never the memory's bound."""

CHALLENGE_LIFETIME_NS = 30 * NS_PER_S
"""Chosen: a person's command line uses its challenge within milliseconds; thirty seconds forgive a slow key device."""


class ChallengeUnknown(Refusal):
    """The challenge was never given, was used, or is too old."""

    code = "challenge-unknown"


class Challenges:
    """The challenges given and not yet used, oldest first."""

    def __init__(self) -> None:
        self._given_ns: dict[bytes, int] = {}

    def give(self, challenge: bytes, now_ns: int) -> bytes:
        """Remember and return `challenge` (16 random bytes drawn by the caller)."""
        self._forget_expired(now_ns)
        if len(self._given_ns) >= CHALLENGES_MAX:
            del self._given_ns[next(iter(self._given_ns))]
        self._given_ns[challenge] = now_ns
        return challenge

    def redeem(self, challenge: bytes, now_ns: int) -> None:
        """Spend `challenge`. Raises: ChallengeUnknown."""
        self._forget_expired(now_ns)
        if self._given_ns.pop(challenge, None) is None:
            raise ChallengeUnknown(
                f"challenge {challenge.hex()} is not one of the {len(self._given_ns)} waiting here: it was used "
                f"before, is older than {CHALLENGE_LIFETIME_NS // NS_PER_S} s or was of an earlier control plane. "
                "Give the command again; it asks for a new one."
            )

    def _forget_expired(self, now_ns: int) -> None:
        expired = [key for key, given_ns in self._given_ns.items() if now_ns - given_ns > CHALLENGE_LIFETIME_NS]
        for key in expired:
            del self._given_ns[key]
