# SPDX-License-Identifier: Apache-2.0
"""A challenge buys one command, once, soon."""

from __future__ import annotations

import pytest

from firecurtain.control.challenge import CHALLENGE_LIFETIME_NS, CHALLENGES_MAX, Challenges, ChallengeUnknown


def test_a_challenge_is_spent_by_its_first_use() -> None:
    challenges = Challenges()
    challenges.redeem(challenges.give(b"a" * 16, 5), 6)
    with pytest.raises(ChallengeUnknown, match="used before"):
        challenges.redeem(b"a" * 16, 7)


def test_a_challenge_nobody_gave_is_refused() -> None:
    with pytest.raises(ChallengeUnknown):
        Challenges().redeem(b"a" * 16, 0)


@pytest.mark.parametrize(("late_ns", "is_good"), [(0, True), (1, False)])
def test_a_challenge_lives_thirty_seconds_and_not_a_nanosecond_longer(late_ns: int, is_good: bool) -> None:
    challenges = Challenges()
    challenges.give(b"a" * 16, 1_000)
    now_ns = 1_000 + CHALLENGE_LIFETIME_NS + late_ns
    if is_good:
        challenges.redeem(b"a" * 16, now_ns)
    else:
        with pytest.raises(ChallengeUnknown):
            challenges.redeem(b"a" * 16, now_ns)


def test_a_flood_of_challenges_pushes_out_the_oldest_only() -> None:
    challenges = Challenges()
    for number in range(CHALLENGES_MAX + 1):
        challenges.give(number.to_bytes(16, "big"), 1)
    with pytest.raises(ChallengeUnknown):
        challenges.redeem((0).to_bytes(16, "big"), 1)
    challenges.redeem((1).to_bytes(16, "big"), 1)
