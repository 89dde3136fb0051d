# SPDX-License-Identifier: Apache-2.0
"""The guards' counters of this node, summed: living processes from their slot files, dead ones folded in for good.

A total never falls while the agent lives. Slot files are removed only after their process is proven dead, by its pid
and start time. Files of users who are neither root, nor we, nor the service are not counted: a directory in which the
service's user may write may be one in which everybody may. Nothing here limits anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from firecurtain.permit import ProcessKey, compute_slots_directory, read_process_key, read_slots, remove_slots
from firecurtain.terms import PermitError
from firecurtain.wire.messages import COUNTERS_MAX

TOTAL_MAX = 2**63 - 1
"""The largest count that a message holds. A total stays there: a guard's own end is 10**18."""

Totals = tuple[tuple[str, int], ...]


class CounterSum:
    """Sums the slots beside one permit page."""

    def __init__(self, page_path: str) -> None:
        self._directory = compute_slots_directory(page_path)
        self._folded: dict[str, int] = {}

    def read_totals(self, service_uids: Collection[int]) -> Totals:
        """All counters by name, at most as many as a message holds. Raises: PermitError: the slots cannot be listed."""
        sums: dict[str, int] = {}
        owners = {0, os.geteuid(), *service_uids}
        for key, totals in read_slots(self._directory, owners).totals.items():
            is_dead = not _is_alive(key)
            # Read once more: its last counts may have come after the first reading and before its death.
            final = read_slots(self._directory, owners).totals.get(key, totals) if is_dead else totals
            _add(self._folded if is_dead else sums, final)
            if is_dead:
                remove_slots(self._directory, key)
        _add(sums, self._folded)
        return tuple(sorted(sums.items())[:COUNTERS_MAX])


def _is_alive(key: ProcessKey) -> bool:
    try:
        return read_process_key(key.pid) == key
    except PermitError:
        return False


def _add(sums: dict[str, int], totals: dict[str, int]) -> None:
    for name, value in totals.items():
        sums[name] = min(sums.get(name, 0) + value, TOTAL_MAX)
