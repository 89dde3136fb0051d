# SPDX-License-Identifier: Apache-2.0
"""How long to wait on the issuer clock until a permit has provably run out.

Each bound is stretched by the drift that 03-protocol allows a clock, and rounded up. It reads no clock and knows no
stop or node.
"""

from __future__ import annotations

from firecurtain.terms import NS_PER_MS, NS_PER_S
from firecurtain.trust.root import Root

ANSWER_LIFETIME_NS = 3 * NS_PER_S
"""An agent anchors beacons at an answer for 3 s. Source: 03-protocol, "Freshness without synchronised clocks"."""

_DRIFT_PER_MILLE = 1
"""rho = 1e-3 of 03-protocol: a clock runs within 1 - rho and 1 + rho of real time."""


def compute_stop_wait_ns(root: Root) -> int:
    """After a durable stop: d for the permit and delta_max for the effect that was checked last."""
    return _stretch_ns((root.max_age_ms + root.delta_max_ms) * NS_PER_MS)


def compute_session_wait_ns(root: Root) -> int:
    """After a session's last answer: the answer's lifetime and d, for the last beacon anchored at it."""
    return _stretch_ns(ANSWER_LIFETIME_NS + root.max_age_ms * NS_PER_MS)


def compute_lapse_ns(root: Root) -> int:
    """After a node's last attest: nothing it was permitted can still have an effect."""
    return _stretch_ns(ANSWER_LIFETIME_NS + (root.max_age_ms + root.delta_max_ms) * NS_PER_MS)


def format_s(duration_ns: int) -> str:
    """A duration for people.

    >>> format_s(1_751_750_000)
    '1.752 s'
    """
    return f"{duration_ns / NS_PER_S:.3f} s"


def _stretch_ns(duration_ns: int) -> int:
    return -(-duration_ns * (1000 + _DRIFT_PER_MILLE) // 1000)
