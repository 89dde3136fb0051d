# SPDX-License-Identifier: Apache-2.0
"""However many stops there are, a beacon covers them all."""

from __future__ import annotations

from firecurtain.control.widen import STOP_BYTES_MAX, select_stops
from firecurtain.terms import mint_token
from firecurtain.wire.messages import STOPS_PER_BEACON_MAX, StopEntry

SERVICE_OF = {"host-1": "smars", "other-1": "refunds"}


def make_entry(number: int, scope: str, reason: str = "") -> StopEntry:
    return StopEntry(number.to_bytes(16, "big"), "halt", scope, reason)


def make_tokens(count: int, reason: str = "") -> list[StopEntry]:
    return [make_entry(number, f"token:{mint_token(number)}", reason) for number in range(count)]


def test_a_stop_of_another_service_is_left_out_and_an_unknown_node_is_kept() -> None:
    entries = [make_entry(1, "service:refunds"), make_entry(2, "node:other-1"), make_entry(3, "node:stranger")]
    assert select_stops(entries, "smars", SERVICE_OF) == ((entries[2],), True)


def test_as_many_stops_as_fit_are_listed_and_one_more_is_told() -> None:
    entries = make_tokens(STOPS_PER_BEACON_MAX + 1)
    assert select_stops(entries[:-1], "smars", SERVICE_OF) == (tuple(entries[:-1]), True)
    listed, is_covered = select_stops(entries, "smars", SERVICE_OF)
    assert (len(listed), is_covered) == (STOPS_PER_BEACON_MAX, False)


def test_long_reasons_are_shortened_before_a_stop_is_left_out() -> None:
    listed, is_covered = select_stops(make_tokens(STOPS_PER_BEACON_MAX, "x" * 500), "smars", SERVICE_OF)
    assert is_covered == (len(listed) == STOPS_PER_BEACON_MAX)
    assert sum(len(entry.reason) for entry in listed) <= STOP_BYTES_MAX


def test_a_broad_stop_comes_first_and_covers_what_does_not_fit() -> None:
    broad = make_entry(999, "service:smars")
    listed, is_covered = select_stops([*make_tokens(300), broad], "smars", SERVICE_OF)
    assert (listed[0], is_covered) == (broad, True)
