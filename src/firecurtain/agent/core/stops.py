# SPDX-License-Identifier: Apache-2.0
"""The two grow-only sets: H holds stops, L holds the ids lifted by k of n people; in force is H without L.

Both only grow, so replayed, delayed and reordered deliveries end in the same place: a lift that came before its stop
still lifts it, a stop delivered again after its lift stays lifted. No signature is verified and no file written here.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from firecurtain.terms import FLEET, TermError, parse_scope
from firecurtain.wire.messages import StopEntry

STOPS_MAX = 100_000

StopKey = tuple[bytes, str]


class StopSets(msgspec.Struct, frozen=True):
    """H by (id, scope), L by id, and one stop in force for each scope that has any.

    The key holds the scope because an id alone could be announced early with a narrow scope to shadow the real stop.
    Nothing here is changed in place.
    """

    stops: Mapping[StopKey, StopEntry] = {}
    lifted: frozenset[bytes] = frozenset()
    in_force: Mapping[str, StopEntry] = {}

    @property
    def is_full(self) -> bool:
        """At the bound every grant is refused, for good: so a stop beyond it needs no entry to be obeyed."""
        return len(self.stops) >= STOPS_MAX or len(self.lifted) >= STOPS_MAX


def find_new_stops(sets: StopSets, entries: tuple[StopEntry, ...]) -> tuple[StopEntry, ...]:
    """The entries that H lacks, each once, as many as H still holds."""
    room = STOPS_MAX - len(sets.stops)
    new = {(entry.id, entry.scope): entry for entry in entries if (entry.id, entry.scope) not in sets.stops}
    return tuple(new.values())[:room]


def find_new_lifts(sets: StopSets, stop_ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The ids that L lacks, each once, as many as L still holds. An id whose stop was never seen counts too."""
    room = STOPS_MAX - len(sets.lifted)
    return tuple(dict.fromkeys(stop_id for stop_id in stop_ids if stop_id not in sets.lifted))[:room]


def find_fences(sets: StopSets, stop_ids: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Those ids under which H holds stops of a release or a token and nothing broader."""
    kinds: dict[bytes, set[str]] = {stop_id: set() for stop_id in stop_ids}
    for entry in sets.stops.values():
        if entry.id in kinds:
            kinds[entry.id].add(_scope_of(entry).partition(":")[0])
    return tuple(stop_id for stop_id, found in kinds.items() if found and found <= {"release", "token"})


def add_stops(sets: StopSets, entries: tuple[StopEntry, ...]) -> StopSets:
    """The union of H and `entries`."""
    stops = {**sets.stops, **{(entry.id, entry.scope): entry for entry in entries}}
    in_force = dict(sets.in_force)
    for entry in entries:
        if entry.id not in sets.lifted:
            in_force.setdefault(_scope_of(entry), entry)
    return StopSets(stops, sets.lifted, in_force)


def add_lifts(sets: StopSets, stop_ids: tuple[bytes, ...]) -> StopSets:
    """The union of L and `stop_ids`; what they lift is no longer in force."""
    lifted = sets.lifted.union(stop_ids)
    in_force: dict[str, StopEntry] = {}
    for entry in sets.stops.values():
        if entry.id not in lifted:
            in_force.setdefault(_scope_of(entry), entry)
    return StopSets(sets.stops, lifted, in_force)


def find_unlifted(sets: StopSets) -> tuple[bytes, ...]:
    """The ids of H without L, the oldest first."""
    return tuple(entry.id for entry in sets.stops.values() if entry.id not in sets.lifted)


def find_lifted_scopes(sets: StopSets, entries: tuple[StopEntry, ...]) -> frozenset[str]:
    """The scopes of those entries that L lifts."""
    return frozenset(_scope_of(entry) for entry in entries if entry.id in sets.lifted)


def find_cover(sets: StopSets, scopes: tuple[str, ...]) -> StopEntry | None:
    """A stop in force on any of `scopes`, the first named first."""
    for scope in scopes:
        if scope in sets.in_force:
            return sets.in_force[scope]
    return None


def _scope_of(entry: StopEntry) -> str:
    """The scope as written, or the whole fleet when we cannot read it: what we do not understand stops everything."""
    try:
        return str(parse_scope(entry.scope))
    except TermError:
        return str(FLEET)
