# SPDX-License-Identifier: Apache-2.0
"""A reader's own bookkeeping over the stream, and what each of its checks is for: take one away and damage passes."""

from __future__ import annotations

import pytest

from firecurtain.bus.journal import _Place
from firecurtain.bus.port import RecordMissing
from firecurtain.terms import LedgerDamaged
from support.mutants import load_mutant


def make_place(kind=_Place, read=3):
    """A reader that has seen this many records."""
    place = kind(0)
    for seq in range(1, read + 1):
        assert place.accept(seq, b"event %d" % seq)
    return place


def skip_a_record(place):
    place.accept(5, b"event 5")


def change_the_newest(place):
    place.accept(3, b"changed")


def end_too_early(place):
    place.check_end(2)


def count_what_never_comes(place):
    place.check_owed(4)
    place.check_owed(4)


def test_the_newest_record_read_again_is_checked_and_not_given_twice():
    place = make_place()
    assert place.start == 3
    assert not place.accept(3, b"event 3")
    assert place.accept(4, b"event 4")


def test_a_record_that_is_only_on_its_way_is_not_missing():
    place = make_place()
    place.check_owed(4)
    assert place.accept(4, b"event 4")
    place.check_owed(4)


@pytest.mark.parametrize(
    ("damage", "error", "words", "check", "blind"),
    [
        (skip_a_record, LedgerDamaged, "from 3 to 5", "sequence != self._sequence + 1", "False"),
        (change_the_newest, LedgerDamaged, "record 3 changed", "event != self._event:", "False:"),
        (end_too_early, LedgerDamaged, "ends at 2", "last < self._sequence:", "False:"),
        (count_what_never_comes, RecordMissing, "does not give record 4", "self._sequence < self._owed", "False"),
    ],
    ids=lambda part: getattr(part, "__name__", None),
)
def test_each_damage_is_told_and_passes_unseen_without_its_check(damage, error, words, check, blind):
    with pytest.raises(error, match=words):
        damage(make_place())
    mutant = load_mutant("firecurtain.bus.journal", check, blind)
    damage(make_place(mutant._Place))
