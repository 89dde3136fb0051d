# SPDX-License-Identifier: Apache-2.0
"""The judgement: venue's and feeder's ledgers joined after the run. Pure; it believes no router and no guard.

Wrong is what the venue executed beyond the shares that a customer had ordered, whoever sent it and why. A parent is
completed when its router reported it and the venue executed exactly what was ordered.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from firecurtain.rehearsal.knight.ledgers import Answered, Event, Execution, Offered, Order, Reconciled
from firecurtain.terms import NS_PER_MS, NS_PER_S


@dataclass(frozen=True, slots=True)
class GuardView:
    """What guards and control plane say, to be held against the ledgers of venue and feeder.

    `actions` counts each node's acquired actions. `lawful_ns` lists for each node the spans in which it attested an
    allowed, armed release and no stop was in force: a denial inside one is a false denial.
    """

    actions: Mapping[int, int]
    lawful_ns: Mapping[int, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """One arm, judged. Times count from the feeder's first offer; None where no guard ran or nothing was denied."""

    wrong_executions: int
    wrong_shares: int
    wrong_gross_usd: float
    wrong_nodes: tuple[int, ...]
    wrong_per_s: float  # over the second half of the window
    node_gross_usd_max: float
    parents_total: int
    parents_completed: int
    false_denials: int
    first_denial_ms: float | None
    all_stopped_ms: float | None
    last_completed_ms: float | None
    venue_equals_guard: bool | None


@dataclass(slots=True)
class _Feed:
    """What the feeder's ledger says."""

    ordered: dict[int, int] = field(default_factory=dict)
    reported: dict[int, int] = field(default_factory=dict)  # parent: at
    denials: list[tuple[int, int]] = field(default_factory=list)  # (at, node)
    first_offer_ns: int | None = None


@dataclass(slots=True)
class _Tally:
    """What the venue's ledger adds up to."""

    executed: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))  # shares by parent
    counts: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))  # executions by node
    gross_cents: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))  # by node
    wrong_nodes: set[int] = field(default_factory=set)
    wrong_executions: int = 0
    wrong_second_half: int = 0
    wrong_shares: int = 0
    wrong_cents: int = 0
    last_wrong_ns: int | None = None


def judge(
    venue: Iterable[Event], feeder: Iterable[Event], open_ns: int, window_ns: int, guards: GuardView | None
) -> Figures:
    """Join the ledgers of one arm whose market opened at `open_ns` for `window_ns`.

    Every execution counts, those after the window's end as well; only the rate is taken from its second half.
    """
    feed = _read_feed(feeder)
    tally = _add_up(venue, feed.ordered, open_ns + window_ns // 2, open_ns + window_ns)
    completed = [at_ns for parent, at_ns in feed.reported.items() if tally.executed[parent] == feed.ordered[parent]]
    return Figures(
        wrong_executions=tally.wrong_executions,
        wrong_shares=tally.wrong_shares,
        wrong_gross_usd=tally.wrong_cents / 100,
        wrong_nodes=tuple(sorted(tally.wrong_nodes)),
        wrong_per_s=tally.wrong_second_half / (window_ns / 2 / NS_PER_S),
        node_gross_usd_max=max(tally.gross_cents.values(), default=0) / 100,
        parents_total=len(feed.ordered),
        parents_completed=len(completed),
        false_denials=0 if guards is None else _count_false_denials(feed.denials, guards),
        first_denial_ms=None if guards is None or not feed.denials else _since_ms(feed, min(feed.denials)[0]),
        all_stopped_ms=None if guards is None else _since_ms(feed, tally.last_wrong_ns),
        last_completed_ms=_since_ms(feed, max(completed)) if completed else None,
        venue_equals_guard=None if guards is None else _is_equal(tally.counts, guards.actions),
    )


def _read_feed(events: Iterable[Event]) -> _Feed:
    feed = _Feed()
    for event in events:
        if isinstance(event, Offered):
            feed.first_offer_ns = feed.first_offer_ns or event.at_ns
        elif isinstance(event, Order):
            feed.ordered[event.parent] = event.shares
        elif isinstance(event, Answered):
            if event.outcome == "done":
                feed.reported[event.parent] = event.at_ns
            elif event.outcome == "denied":
                feed.denials.append((event.at_ns, event.node))
        elif isinstance(event, Reconciled) and event.shares_executed >= feed.ordered[event.parent]:
            feed.reported[event.parent] = event.at_ns
    return feed


def _add_up(events: Iterable[Event], ordered: Mapping[int, int], half_ns: int, end_ns: int) -> _Tally:
    tally = _Tally()
    for event in events:
        if not isinstance(event, Execution):
            continue
        tally.executed[event.parent] += event.shares
        tally.counts[event.node] += 1
        tally.gross_cents[event.node] += event.shares * event.price_cents
        excess = min(event.shares, tally.executed[event.parent] - ordered.get(event.parent, 0))
        if excess > 0:
            tally.wrong_executions += 1
            tally.wrong_second_half += half_ns <= event.receipt_ns < end_ns
            tally.wrong_shares += excess
            tally.wrong_cents += excess * event.price_cents
            tally.wrong_nodes.add(event.node)
            tally.last_wrong_ns = event.receipt_ns
    return tally


def _count_false_denials(denials: Iterable[tuple[int, int]], guards: GuardView) -> int:
    return sum(
        any(from_ns <= at_ns < to_ns for from_ns, to_ns in guards.lawful_ns.get(node, ())) for at_ns, node in denials
    )


def _since_ms(feed: _Feed, at_ns: int | None) -> float:
    """Milliseconds since the first offer; nothing wrong ever means stopped from the start."""
    if at_ns is None or feed.first_offer_ns is None:
        return 0.0
    return (at_ns - feed.first_offer_ns) / NS_PER_MS


def _is_equal(venue: Mapping[int, int], guards: Mapping[int, int]) -> bool:
    return all(venue.get(node, 0) == guards.get(node, 0) for node in venue.keys() | guards.keys())
