# SPDX-License-Identifier: Apache-2.0
"""Lifting: k of n people name stop ids, which join the set L. Nothing leaves H, and no lift may unbind a flag.

Used by `resume` and by a complete release that names the fences it lifts. Whether k of n signed is `trust.verify`.
"""

from __future__ import annotations

from firecurtain.domain.binding import check_may_run, is_open
from firecurtain.domain.content import check_entries_fit
from firecurtain.domain.events import Event, StopsLifted
from firecurtain.domain.evolve import evolve, is_taken_back
from firecurtain.domain.refusals import Duplicate, UnknownStop, refusing_documents
from firecurtain.domain.state import Fleet, Instant
from firecurtain.domain.stops import check_bound, find_fenced
from firecurtain.trust.verify import verify_lift
from firecurtain.wire.commands import LiftStops


def decide_lift(state: Fleet, body: LiftStops, now: Instant) -> tuple[Event, ...]:
    """Lift the stops that a k-of-n envelope names.

    Raises: DocumentRefused, ThresholdMissing, UnknownStop, Duplicate, LedgerBound, and what `compute_lifted` raises.
    """
    check_bound(state)
    with refusing_documents():
        lift = verify_lift(body.envelope, state.root)
    return compute_lifted(state, tuple(sorted(lift.stop_ids)), body.envelope, now)


def compute_lifted(state: Fleet, ids: tuple[bytes, ...], envelope: bytes, now: Instant) -> tuple[Event, ...]:
    """The event that adds `ids` to L, refused when a release would then run beside a flag it does not declare.

    Raises: UnknownStop, Duplicate, ArmedFlagNotDeclared, DisarmNotWaited, EntryBound.
    """
    unknown = [stop_id for stop_id in ids if stop_id not in state.stops]
    if unknown:
        raise UnknownStop(
            f"stop {unknown[0].hex()} is not among the {len(state.stops)} in the ledger. "
            "Do: take ids from `firecurtain status`; a stop is recorded before it can be lifted."
        )
    # What a release took back may still be lifted: a node that heard a halt under the same id waits for k of n.
    if all(stop_id in state.lifted and not is_taken_back(state, stop_id) for stop_id in ids):
        raise Duplicate(f"all {len(ids)} stops are lifted already. Nothing to do.")
    event = StopsLifted(ids, envelope)
    _check_freed(state, evolve(state, event), now)
    return (event,)


def _check_freed(before: Fleet, after: Fleet, now: Instant) -> None:
    """Judge each release that a lift would let run again as if its stage were opened now."""
    for name in sorted(find_fenced(before) - find_fenced(after)):
        record = after.releases.get(name)
        if record is not None and is_open(record):
            check_may_run(after, record, now)
            check_entries_fit(after, record.document.service)
