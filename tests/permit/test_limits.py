# SPDX-License-Identifier: Apache-2.0
"""The limits file: canonical bytes, strict reading, and no other bytes than the page names."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecurtain.permit import (
    ACTION_NAME_SIZE_MAX,
    ActionLimits,
    PageRefused,
    compute_limits_digest,
    encode_limits,
    parse_limits,
    read_limits,
    write_limits,
)
from firecurtain.terms import LimitError, PermitError, Reason

LIMITS = {"send-order": ActionLimits(10, 2_000_000), "cancel": ActionLimits(1, 0)}
GOLDEN = b'{"cancel":{"effects_per_cause":1,"gross_usd":0},"send-order":{"effects_per_cause":10,"gross_usd":2000000}}'


@pytest.fixture
def directory(tmp_path: Path) -> str:
    tmp_path.chmod(0o700)
    return str(tmp_path)


def test_golden_limits_bytes():
    assert encode_limits(LIMITS) == GOLDEN
    assert compute_limits_digest(GOLDEN) == "7e91a89b8282e8cd61727948aa587909136b49776e0e6dfcc6ad65fda73eabae"


@given(
    st.dictionaries(
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,29}", fullmatch=True),
        st.builds(ActionLimits, st.integers(0, 10**12), st.integers(0, 10**12)),
        max_size=6,
    )
)
def test_all_limits_come_back(limits):
    assert parse_limits(encode_limits(limits)) == limits


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 100_000, "at most 65536 bytes"),
        (b"[" * 60_000, "not JSON"),
        (b"[]", "not list"),
        (b'{"a":1}', r"\$\.a must be an object"),
        (b'{"a":{"effects_per_cause":1}}', r"\$\.a\.gross_usd must be a whole number .* got None"),
        (b'{"a":{"gross_usd":1}}', r"\$\.a\.effects_per_cause must be"),
        (b'{"a":{"effects_per_cause":1,"gross_usd":1,"rate":2}}', r"\$\.a\.rate is not a limit we know"),
        (b'{"a":{"effects_per_cause":true,"gross_usd":1}}', "got True"),
        (b'{"a":{"effects_per_cause":1.0,"gross_usd":1}}', "got 1.0"),
        (b'{"a":{"effects_per_cause":-1,"gross_usd":1}}', "got -1"),
        (b'{"a":{"effects_per_cause":1,"gross_usd":1000000000001}}', "got 1000000000001"),
        (b'{"a":{"effects_per_cause":1,"gross_usd":NaN}}', "got nan"),
        (b'{"a b":{"effects_per_cause":1,"gross_usd":1}}', "name 'a b' must be"),
        (b'{"' + b"a" * 31 + b'":{"effects_per_cause":1,"gross_usd":1}}', "31 characters, at most 30"),
        (b'{"a":{"effects_per_cause":1,"gross_usd":1,"gross_usd":2}}', "canonical"),
        (b'{"a": {"effects_per_cause":1,"gross_usd":1}}', "canonical"),
        (b'{"a":{"gross_usd":1,"effects_per_cause":1}}', "canonical"),
    ],
)
def test_what_is_not_a_limits_file_is_refused_by_name(data, text):
    with pytest.raises(LimitError, match=text):
        parse_limits(data)


@given(st.binary(max_size=60) | st.text(alphabet='{}":,a1eNfl[]', max_size=40).map(str.encode))
def test_random_bytes_are_limits_or_a_limit_error(data):
    with suppress(LimitError):
        assert encode_limits(parse_limits(data)) == data


def test_the_longest_action_still_has_room_for_its_longest_counter():
    longest = max(len(reason.text) for reason in Reason)
    assert ACTION_NAME_SIZE_MAX + len(":denied:") + longest == 55


def test_written_limits_are_read_back(directory):
    digest = write_limits(directory, GOLDEN)
    assert [path.name for path in Path(directory).iterdir()] == [f"limits-{digest}.json"]
    assert read_limits(directory, digest) == LIMITS
    assert write_limits(directory, GOLDEN) == digest


def test_other_bytes_than_the_page_names_are_refused_with_both_digests(directory):
    digest = write_limits(directory, GOLDEN)
    path = Path(directory, f"limits-{digest}.json")
    path.write_bytes(GOLDEN.replace(b"10", b"99"))
    with pytest.raises(PageRefused, match=f"has digest [0-9a-f]+, the permit page names {digest}") as refusal:
        read_limits(directory, digest)
    assert refusal.value.reason is Reason.LIMITS_MISMATCH


def test_a_missing_or_unsafe_limits_file_is_a_mismatch(directory):
    with pytest.raises(PageRefused, match="does not exist") as refusal:
        read_limits(directory, compute_limits_digest(GOLDEN))
    assert refusal.value.reason is Reason.LIMITS_MISMATCH
    digest = write_limits(directory, GOLDEN)
    Path(directory, f"limits-{digest}.json").chmod(0o666)
    with pytest.raises(PageRefused, match="others may write it"):
        read_limits(directory, digest)


def test_limits_are_not_written_where_they_cannot_be_trusted(directory):
    with pytest.raises(LimitError):
        write_limits(directory, b"{")
    Path(directory).chmod(0o777)
    with pytest.raises(PermitError, match="others may write it"):
        write_limits(directory, GOLDEN)
