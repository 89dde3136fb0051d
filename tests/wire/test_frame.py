# SPDX-License-Identifier: Apache-2.0
"""Every message has golden bytes, and nothing but those bytes from that key is accepted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firecurtain.terms import WireError
from firecurtain.wire import commands, frame, messages
from firecurtain.wire.keys import Ed25519Signer, compute_keyid, is_signature

SIGNER = Ed25519Signer(bytes(range(32)))
KEYS = {SIGNER.keyid: SIGNER.public}
OTHER = Ed25519Signer(bytes(32))

DIGEST, OTHER_DIGEST = "9f2c" * 16, "41ab" * 16
HALT = messages.StopEntry(bytes(range(16)), "halt", "service:smars", "orders without parents")
ALLOWED = messages.AllowedRelease(DIGEST, OTHER_DIGEST, "all", ("host-1",), ("fc1-7Q4MZK2X9PWD",), DIGEST)
BEACON = messages.Beacon(
    1, "knight", "smars", bytes(16), 1_000_000_007, 1_343_827_800_000, 1500, 1, 42, DIGEST, (ALLOWED,), (HALT,)
)
ATTEST = messages.Attest(
    version=1,
    fleet="knight",
    service="smars",
    node="host-8",
    session=bytes(16),
    number=7,
    running=messages.Running(4711, 123, OTHER_DIGEST, 0),
    ledger_epoch=1,
    ledger_seq=42,
    content=DIGEST,
    latched=(HALT.id,),
    totals=(("send-order.acquired", 3),),
    nonce=bytes(range(16, 32)),
)
ANSWER = messages.Answer(1, "knight", "host-8", bytes(16), bytes(range(16, 32)), OTHER_DIGEST, bytes(16), 99, (b"{}",))
STOP = messages.Stop(1, "knight", HALT, 1_343_827_800_000)
REPLY = messages.Reply(1, "knight", bytes(16), ok=False, ledger_seq=43, code="gate-closed", text="7 of 8", detail=b"{}")
COMMAND = commands.Command(1, "knight", bytes(16), commands.ExcludeNode("host-8", "runs 41ab.., not 9f2c.."))

SIGNED: dict[str, frame.Signed] = {
    "beacon": BEACON,
    "attest": ATTEST,
    "answer": ANSWER,
    "stop": STOP,
    "reply": REPLY,
    "command": COMMAND,
}
UNSIGNED: dict[str, msgspec.Struct] = {
    "counters": messages.Counters(1, "knight", "smars", "host-8", bytes(16), 7, (("send-order.acquired", 3),)),
    "lift": messages.Lift(1, "knight", b"{}"),
}
GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("name", sorted(SIGNED))
def test_a_signed_message_has_its_golden_bytes(name: str) -> None:
    """Ed25519 is deterministic: one changed byte here breaks every node that is not upgraded in the same second."""
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
    assert frame.encode_frame(SIGNED[name], SIGNER) == golden
    assert frame.decode_frame(type(SIGNED[name]), golden, KEYS) == frame.Verified(SIGNER.keyid, SIGNED[name])


@pytest.mark.parametrize("name", sorted(UNSIGNED))
def test_an_unsigned_message_has_its_golden_bytes(name: str) -> None:
    golden = bytes.fromhex((GOLDEN / f"{name}.hex").read_text())
    assert msgspec.msgpack.encode(UNSIGNED[name]) == golden
    assert frame.decode_payload(type(UNSIGNED[name]), golden) == UNSIGNED[name]


@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_frame_with_any_byte_changed_is_refused(place: int, flip: int) -> None:
    damaged = bytearray(frame.encode_frame(BEACON, SIGNER))
    damaged[place % len(damaged)] ^= flip
    with pytest.raises(WireError):
        frame.decode_frame(messages.Beacon, bytes(damaged), KEYS)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_but_a_wire_error(noise: bytes) -> None:
    for data in (noise, b"FCB1" + SIGNER.keyid + noise):
        with pytest.raises(WireError):
            frame.decode_frame(messages.Stop, data, KEYS)


@given(st.binary(max_size=300))
def test_a_signed_payload_of_arbitrary_bytes_is_refused_as_malformed(noise: bytes) -> None:
    with pytest.raises(WireError, match="malformed"):
        frame.decode_payload(messages.Beacon, noise)


def test_a_signed_stop_cannot_be_read_as_another_message() -> None:
    """The payload type is inside the signature, so the same bytes under another name do not verify."""
    for kind in (messages.Beacon, messages.Attest, messages.Answer, commands.Command):
        with pytest.raises(WireError, match="signature"):
            frame.decode_frame(kind, frame.encode_frame(STOP, SIGNER), KEYS)


def test_a_key_that_is_not_listed_signs_nothing() -> None:
    with pytest.raises(WireError, match=f"unknown key {OTHER.keyid.hex()}"):
        frame.decode_frame(messages.Stop, frame.encode_frame(STOP, OTHER), KEYS)


def test_a_key_listed_under_another_key_id_signs_nothing() -> None:
    """Key ids prove nothing: what counts is the public key behind the id."""
    with pytest.raises(WireError, match="signature"):
        frame.decode_frame(messages.Stop, frame.encode_frame(STOP, OTHER), {OTHER.keyid: SIGNER.public})


def test_a_field_too_many_or_too_few_is_refused() -> None:
    array = msgspec.msgpack.decode(msgspec.msgpack.encode(BEACON))
    for wrong in ([*array, 0], array[:-1]):
        with pytest.raises(WireError, match="malformed"):
            frame.decode_payload(messages.Beacon, msgspec.msgpack.encode(wrong))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, 2),
        (1, "no spaces"),
        (1, "knight\n"),
        (9, "9f2c" * 16 + "\n"),
        (3, bytes(15)),
        (4, -1),
        (6, 0),
        (6, 600_001),
        (9, "9F2C" * 16),
        (10, [[0] * 6] * 9),
    ],
)
def test_a_field_outside_its_bounds_is_refused(field: int, value: object) -> None:
    array = msgspec.msgpack.decode(msgspec.msgpack.encode(BEACON))
    array[field] = value
    with pytest.raises(WireError, match="malformed"):
        frame.decode_payload(messages.Beacon, msgspec.msgpack.encode(array))


def test_an_unknown_command_is_refused() -> None:
    array = msgspec.msgpack.decode(msgspec.msgpack.encode(COMMAND))
    array[3][0] = "DropLedger"
    with pytest.raises(WireError, match="malformed"):
        frame.decode_payload(commands.Command, msgspec.msgpack.encode(array))


def test_a_frame_of_64_kib_passes_and_one_byte_more_is_refused_on_both_sides() -> None:
    def lift_of(size: int) -> messages.Answer:
        return msgspec.structs.replace(ANSWER, lifts=(bytes(size),))

    room = frame.FRAME_BYTES_MAX - len(frame.encode_frame(lift_of(60_000), SIGNER)) + 60_000
    whole = frame.encode_frame(lift_of(room), SIGNER)
    assert len(whole) == frame.FRAME_BYTES_MAX
    assert frame.decode_frame(messages.Answer, whole, KEYS).message == lift_of(room)
    with pytest.raises(WireError, match="65537 bytes"):
        frame.encode_frame(lift_of(room + 1), SIGNER)
    with pytest.raises(WireError, match="65537 bytes"):
        frame.decode_frame(messages.Answer, whole + b"\0", KEYS)


def test_content_is_named_by_everything_in_it() -> None:
    base = messages.compute_content_digest(1, 42, "smars", (ALLOWED,))
    unarmed = msgspec.structs.replace(ALLOWED, armed=())
    others = [
        messages.compute_content_digest(2, 42, "smars", (ALLOWED,)),
        messages.compute_content_digest(1, 43, "smars", (ALLOWED,)),
        messages.compute_content_digest(1, 42, "payouts", (ALLOWED,)),
        messages.compute_content_digest(1, 42, "smars", (unarmed,)),
    ]
    assert len({base, *others}) == 5


def test_a_seed_of_the_wrong_length_and_a_public_key_of_the_wrong_length_are_named() -> None:
    with pytest.raises(WireError, match="32 bytes, got 31"):
        Ed25519Signer(bytes(31))
    with pytest.raises(WireError, match="no Ed25519 public key"):
        is_signature(bytes(31), bytes(64), b"")
    assert compute_keyid(SIGNER.public) == SIGNER.keyid


@pytest.mark.parametrize("total", [("x" * 64, 1), ("order.sent", -1), ("order.sent", 2**63)])
@pytest.mark.parametrize("kind", ["attest", "counters"])
def test_a_counter_has_a_short_name_and_a_count(kind: str, total: tuple[str, int]) -> None:
    message = {**SIGNED, **UNSIGNED}[kind]
    frame.decode_payload(type(message), msgspec.msgpack.encode(message))
    wrong = msgspec.structs.replace(message, totals=(total,))
    with pytest.raises(WireError, match="malformed"):
        frame.decode_payload(type(message), msgspec.msgpack.encode(wrong))
