# SPDX-License-Identifier: Apache-2.0
"""`status` of a fleet where everything that may be long is as long as it may be."""

from __future__ import annotations

import json
from collections.abc import Callable

from msgspec.structs import replace

from firecurtain.control.answers import Answers
from firecurtain.control.issuer import Issuer
from firecurtain.control.status import compute_status
from firecurtain.domain.state import Fleet, Instant, Node, Presence, ReleaseRecord, StopRecord
from firecurtain.trust.envelope import RELEASE_TYPE, read_envelope
from firecurtain.trust.release import decode_release
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.keys import Ed25519Signer
from firecurtain.wire.messages import VERSION, Reply
from support.fleet_world import make_id, make_release, make_token

LARGE = 2**62
MANY = 300
NOW = Instant(bytes(16), LARGE, 1, 0)
LONGEST = {  # what the wire lets in, of the characters that take most room in UTF-8 and in JSON
    "four bytes": ("\U0001f525" * 500, "\U0001f525" * 100),
    "escaped": ("\x01" * 500, "\x01" * 100),
}


def make_name(number: int) -> str:
    return f"n{number:05d}".ljust(63, "x")


def make_answers() -> Answers:
    answers = Answers.__new__(Answers)  # of it, status reads these two
    presence = Presence(bytes(16), 1, "f" * 64, 0, -LARGE, None)
    answers.live = {make_name(number): presence for number in range(MANY)}
    answers.verdicts = {make_name(number): "artifact-not-allowed" for number in range(MANY)}
    return answers


def grow(fleet: Fleet, reason: str, scope: str) -> Fleet:
    document = decode_release(read_envelope(make_release(1, "old"), RELEASE_TYPE)[0])
    tokens = tuple(make_token(number) for number in range(64))
    stages = tuple(make_name(number) for number in range(32))
    stops = [StopRecord(make_id(str(number)), "disarm", scope, reason, b"", b"", 1, LARGE) for number in range(MANY)]
    return replace(
        fleet,
        fleet=make_name(0),
        nodes={make_name(number): Node(make_name(number), make_name(number), b"") for number in range(MANY)},
        releases={
            f"{number:064d}": ReleaseRecord(
                f"{number:064d}", replace(document, service=make_name(0), version=2**53 - 1), b"", True, stages, tokens
            )
            for number in range(MANY)
        },
        stops={stop.id: stop for stop in stops},
        content_seq={make_name(number): LARGE for number in range(MANY)},
    )


def test_the_longest_status_fits_into_a_frame_and_says_what_it_left_out(
    operator_fleet: Fleet, make_issuer: Callable[..., Issuer], issuer_key: Ed25519Signer
) -> None:
    for reason, scope in LONGEST.values():
        issuer = make_issuer(type("Silent", (Issuer,), {"silence": reason * 8}))
        fleet = grow(operator_fleet, reason, scope)
        status = compute_status(fleet, make_answers(), issuer, NOW, reason * 8)
        detail = json.dumps(status, ensure_ascii=False).encode()
        encode_frame(Reply(VERSION, fleet.fleet, bytes(16), True, LARGE, "", "done", detail), issuer_key)
        assert (len(status["fencing_floors"]), status["fencing_floors_total"]) == (50, MANY)
        newest = status["releases"][-1]
        assert (newest["stages_total"], newest["stages"][-1]) == (32, make_name(31))
        assert (newest["armed_total"], newest["armed"][0]) == (64, make_token(0))
        assert status["stops"][-1]["reason"], "cut, never left out"


def test_what_people_write_every_day_is_shown_whole(operator_fleet: Fleet, make_issuer: Callable[..., Issuer]) -> None:
    stop = StopRecord(make_id("one"), "halt", "release:" + "f" * 64, "Останов: деньги уходят", b"", b"", 1, 2)
    issuer = make_issuer()
    status = compute_status(replace(operator_fleet, stops={stop.id: stop}), make_answers(), issuer, NOW, "")
    assert [(entry["scope"], entry["reason"]) for entry in status["stops"]] == [(stop.scope, stop.reason)]
