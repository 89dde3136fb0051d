# SPDX-License-Identifier: Apache-2.0
"""The bytes of the permit page: golden vectors, and no byte string that makes the decoder do anything but refuse."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecurtain.permit import ARMED_COUNT_MAX, Body, Grant, PageHeader, PageRefused
from firecurtain.permit.page import (
    BODY_SIZE,
    HEADER_SIZE,
    PAGE_SIZE,
    decode_body,
    decode_header,
    encode_body,
    encode_header,
)
from firecurtain.terms import Digest, InvariantError, Reason, TermError, mint_token

HEADER = PageHeader("theatre", "payouts", "host-8", 1_500_000_000, bytes(range(16)), 4026531834)
GRANT = Grant(
    7, 4711, Digest("a1" * 32), Digest("b2" * 32), Digest("c3" * 32), frozenset([mint_token(31), mint_token(2**60 - 1)])
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", fullmatch=True)
WORDS = st.integers(0, 2**64 - 1)
DIGESTS = st.binary(min_size=32, max_size=32).map(lambda data: Digest(data.hex()))
TOKENS = st.frozensets(st.integers(0, 2**60 - 1).map(mint_token), max_size=ARMED_COUNT_MAX)
GRANTS = st.builds(Grant, WORDS, WORDS, DIGESTS, DIGESTS, DIGESTS, TOKENS)


def test_golden_header_bytes():
    expected = (
        b"FCPERMIT"
        + bytes.fromhex("0100000000100000")
        + bytes(range(16))
        + bytes.fromhex("faffffef00000000002f685900000000")
        + bytes(16)
        + b"theatre".ljust(64, b"\0")
        + b"payouts".ljust(64, b"\0")
        + b"host-8".ljust(64, b"\0")
    )
    assert encode_header(HEADER) == expected
    assert len(expected) == HEADER_SIZE


def test_golden_body_bytes():
    expected = (
        bytes.fromhex("07000000000000006712000000000000")
        + b"\xa1" * 32
        + b"\xb2" * 32
        + b"\xc3" * 32
        + bytes.fromhex("0800060002000000")
        + b"halted".ljust(256, b"\0")
        + bytes.fromhex("1f00000000000000ffffffffffffff0f")
        + bytes(496 + 136)
    )
    assert encode_body(Body(GRANT, Reason.STOP_IN_FORCE, "halted")) == expected
    assert len(expected) == BODY_SIZE


def test_header_of_another_version_names_both_versions():
    data = bytearray(encode_header(HEADER).ljust(PAGE_SIZE, b"\0"))
    data[8] = 2
    with pytest.raises(PageRefused, match=r"version 2.*version 1") as refusal:
        decode_header(bytes(data))
    assert refusal.value.reason is Reason.PAGE_MALFORMED


def test_more_tokens_than_fit_are_a_programmers_error():
    armed = frozenset(mint_token(index) for index in range(ARMED_COUNT_MAX + 1))
    with pytest.raises(InvariantError, match="64 armed tokens, got 65"):
        encode_body(Body(replace(GRANT, armed=armed), Reason.OK))


@pytest.mark.parametrize(
    "fault", [{"boot_id": b"short"}, {"max_age_ns": 0}, {"max_age_ns": 2**64}, {"time_namespace": -1}]
)
def test_a_header_that_does_not_fit_is_a_programmers_error(fault):
    with pytest.raises(InvariantError):
        encode_header(replace(HEADER, **fault))


def test_a_name_that_is_no_name_is_refused():
    with pytest.raises(TermError):
        encode_header(replace(HEADER, service="pay outs"))


def test_a_detail_that_is_too_long_is_cut_between_characters():
    body = decode_body(encode_body(Body(GRANT, Reason.STOP_IN_FORCE, "x" + "é" * 200)))
    assert body.detail == "x" + "é" * 127


@given(NAMES, NAMES, NAMES, st.integers(1, 2**64 - 1), st.binary(min_size=16, max_size=16), WORDS)
def test_every_header_comes_back(fleet, service, node, max_age_ns, boot_id, namespace):
    header = PageHeader(fleet, service, node, max_age_ns, boot_id, namespace)
    assert decode_header(encode_header(header).ljust(PAGE_SIZE, b"\0")) == header


@given(GRANTS, st.sampled_from(Reason), st.text(max_size=60))
def test_every_body_comes_back(grant, reason, detail):
    body = Body(grant, reason, detail)
    assert decode_body(encode_body(body)) == body


@given(st.binary(min_size=BODY_SIZE, max_size=BODY_SIZE))
def test_random_bytes_are_a_body_or_a_refusal(data):
    with suppress(PageRefused):
        assert encode_body(decode_body(data)) == data


@pytest.mark.parametrize("words", [(5, 5), (6, 5), (1 << 60,)])
def test_token_words_that_no_writer_writes_are_refused(words):
    data = bytearray(encode_body(Body(replace(GRANT, armed=frozenset()), Reason.OK)))
    data[116:118] = len(words).to_bytes(2, "little")
    data[376 : 376 + 8 * len(words)] = b"".join(word.to_bytes(8, "little") for word in words)
    with pytest.raises(PageRefused, match="token words"):
        decode_body(bytes(data))


@given(st.integers(0, BODY_SIZE - 1), st.integers(1, 255))
def test_every_changed_byte_of_a_body_is_seen(offset, change):
    golden = encode_body(Body(GRANT, Reason.OK, "two tokens"))
    data = bytearray(golden)
    data[offset] ^= change
    with suppress(PageRefused):
        assert decode_body(bytes(data)) != decode_body(golden)


@given(st.integers(0, HEADER_SIZE - 1), st.integers(1, 255))
def test_every_changed_byte_of_a_header_is_seen(offset, change):
    golden = encode_header(HEADER).ljust(PAGE_SIZE, b"\0")
    data = bytearray(golden)
    data[offset] ^= change
    with suppress(PageRefused):
        assert decode_header(bytes(data)) != HEADER
