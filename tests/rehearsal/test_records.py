# SPDX-License-Identifier: Apache-2.0
"""What is read from the control plane's ledger: spans in which a denial would be false, and refusals word for word."""

from __future__ import annotations

import pytest

from firecurtain.domain.events import Armed, CommandRefused, Event, SessionOpened, StopRecorded
from firecurtain.rehearsal.knight.records import compute_lawful_spans, list_refusals

MS = 1_000_000
OFFSET_NS = -1_600_000_000_000_000_000
ARMED_UTC_MS = 1_600_000_100_000
ARMED_NS = ARMED_UTC_MS * MS + OFFSET_NS
CLOSED_NS = ARMED_NS + 5000 * MS
FLAG = "fc1-58TXHRWVD30B"
RELEASE = "9f2c" * 16
ARMED = Armed(RELEASE, (FLAG,), ARMED_UTC_MS)

Spans = dict[int, tuple[tuple[int, int], ...]]


def stop(scope: str, after_ms: int) -> StopRecorded:
    return StopRecorded(b"i" * 16, "halt", scope, "why", b"k" * 8, b"c" * 16, 0, ARMED_UTC_MS + after_ms)


def compute(*history: Event) -> Spans:
    nodes = {1: "host-1", 2: "host-2"}
    return dict(compute_lawful_spans(history, nodes, FLAG, "smars", OFFSET_NS, CLOSED_NS))


def test_a_server_is_in_the_right_from_arming_until_its_fleet_is_ended():
    assert compute(ARMED) == {1: ((ARMED_NS, CLOSED_NS),), 2: ((ARMED_NS, CLOSED_NS),)}


def test_before_arming_and_for_another_flag_no_denial_is_false():
    assert compute() == {}
    assert compute(Armed(RELEASE, ("fc1-000000000000",), ARMED_UTC_MS)) == {}


def test_a_stop_ends_the_span_of_the_server_it_names_and_of_no_other():
    assert compute(ARMED, stop("node:host-2", 700)) == {
        1: ((ARMED_NS, CLOSED_NS),),
        2: ((ARMED_NS, ARMED_NS + 700 * MS),),
    }


@pytest.mark.parametrize("scope", ["fleet", "service:smars", f"token:{FLAG}", f"release:{RELEASE}"])
def test_a_stop_of_what_all_servers_share_ends_every_span(scope: str):
    assert set(compute(ARMED, stop(scope, 700), stop(scope, 900)).values()) == {((ARMED_NS, ARMED_NS + 700 * MS),)}


@pytest.mark.parametrize("scope", ["service:payouts", "node:host-8", f"release:{'41ab' * 16}"])
def test_a_stop_elsewhere_such_as_the_fence_of_the_old_release_ends_none(scope: str):
    assert compute(ARMED, stop(scope, 700)) == compute(ARMED)


def test_a_stop_that_came_before_arming_leaves_no_span():
    assert compute(stop("fleet", -10), ARMED) == {1: (), 2: ()}


def test_refusals_are_quoted_with_their_place_and_their_own_words():
    opened = SessionOpened("host-1", b"s" * 16)
    refused = CommandRefused("ProposeRelease", b"k" * 8, "armed-flag-not-declared", "it would give it another meaning.")
    assert list_refusals([opened, refused, opened, refused]) == (
        "ledger_seq 2 armed-flag-not-declared: it would give it another meaning.",
        "ledger_seq 4 armed-flag-not-declared: it would give it another meaning.",
    )
