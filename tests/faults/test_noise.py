# SPDX-License-Identifier: Apache-2.0
"""Garbage, forgeries and replays on the real bus, with every credential a person or a node has and one nobody should.

Nothing of it may deny one lawful action, end a process, or fill a log.
"""

from __future__ import annotations

import json
import signal
import time
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from firecurtain.trust.keys import load_private_key
from firecurtain.wire import subjects
from firecurtain.wire.frame import encode_frame
from firecurtain.wire.messages import VERSION, Beacon, Stop, StopEntry, compute_content_digest
from support.operated import FLEET, MAX_AGE_S, NODE, SERVICE, read_now_ns, send
from support.raw_nats import RawClient

FLOOD = 500
LOG_LINES_MAX = 60  # named at 1, 2, 4, 8 …: ten kinds of noise, some of them on two connections
SLACK_S = 0.5
HOSTILE_REPLIES = ("_INBOX..x", "_INBOX.>", "_INBOX.*.x", "_INBOX.", "fc.knight.down.beacon.smars", "$JS.API.INFO")


@pytest.fixture
def operator(living: Any) -> Iterator[RawClient]:
    access = json.loads((living.fleet.directory / "state" / "operator.json").read_text())
    with RawClient(living.fleet.read_run()["url"], access["user"], access["password"]) as client:
        yield client


@pytest.fixture
def node(living: Any) -> Iterator[RawClient]:
    bus = tomllib.loads((living.fleet.directory / "nodes" / NODE / "agent.toml").read_text())["bus"]
    with RawClient(bus["url"], bus["user"], bus["password"]) as client:
        yield client


def load_key(living: Any, name: str) -> Any:
    return load_private_key(living.fleet.directory / "keys" / f"{name}.pem")


def make_stop(signer: Any, scope: str = "fleet") -> bytes:
    return encode_frame(Stop(VERSION, FLEET, StopEntry(bytes(16), "halt", scope, "forged"), 0), signer)


def flip(frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]


def count_lines(living: Any) -> int:
    return sum(len(started.read_log().splitlines()) for started in (living.up, living.agent))


def flood(client: RawClient, frames: list[bytes], places: list[str], reply: str) -> None:
    for number in range(FLOOD):
        for place in places:
            client.publish(place, frames[number % len(frames)], reply)
    client.flush()


def assert_unmoved(living: Any, changes: int) -> None:
    """The service acts, was never denied meanwhile, no stop is in force, and both processes are the same."""
    living.fleet.wait_acting()
    status = living.fleet.ask("status")
    assert (status["stops"], status["silence"], status["grants_refused"]) == ([], "", "")
    assert living.fleet.read_heard()[changes:] == []
    assert living.up.process.poll() is None
    assert living.agent.process.poll() is None


def test_garbage_and_forgeries_of_an_operator_stop_nobody_and_fill_no_log(living: Any, operator: RawClient) -> None:
    changes, lines = len(living.fleet.read_heard()), count_lines(living)
    true_stop = make_stop(load_key(living, "operator"))
    frames = [
        b"",
        b"\0" * 3000,
        b"FCB1",
        flip(true_stop, 20),  # the signature
        flip(true_stop, len(true_stop) - 3),  # what is signed
        flip(true_stop, 5),  # the key
        make_stop(load_key(living, "author")),  # a key of the root that may not stop
    ]
    places = [subjects.stop(FLEET), subjects.command(FLEET), subjects.release_for_people(FLEET)]
    flood(operator, frames, places, f"_INBOX.{operator.user}.x")
    assert_unmoved(living, changes)
    assert count_lines(living) - lines <= LOG_LINES_MAX


def test_garbage_and_forgeries_of_a_node_stop_nobody_and_fill_no_log(living: Any, node: RawClient) -> None:
    changes, lines = len(living.fleet.read_heard()), count_lines(living)
    frames = [b"", b"\0" * 3000, b"FCB1" + bytes(200), make_stop(load_key(living, "author")), b"\x90", b"\xdc\xff\xff"]
    places = [place(FLEET, NODE) for place in (subjects.attest, subjects.counters, subjects.node_stop)]
    flood(node, frames, [*places, subjects.release(FLEET, NODE)], f"_INBOX.{NODE}.x")
    assert_unmoved(living, changes)
    assert count_lines(living) - lines <= LOG_LINES_MAX


def test_a_node_stops_nobody_but_itself(living: Any, node: RawClient) -> None:
    changes = len(living.fleet.read_heard())
    key = load_private_key(living.fleet.directory / "nodes" / NODE / "node.pem")
    for scope in ("fleet", f"service:{SERVICE}", "node:host-2"):
        node.publish(subjects.node_stop(FLEET, NODE), make_stop(key, scope))
    node.flush()
    assert_unmoved(living, changes)


def test_where_an_answer_is_wanted_cannot_silence_a_beacon(living: Any, operator: RawClient, node: RawClient) -> None:
    """A reply subject that the broker refuses would be the control plane's error, and its next beacon would not go."""
    changes, lines = len(living.fleet.read_heard()), count_lines(living)
    for _ in range(FLOOD // 10):
        for reply in HOSTILE_REPLIES:
            operator.publish(subjects.hello(FLEET), b"", reply)
            operator.publish(subjects.release_for_people(FLEET), b"x", reply)
            operator.publish(subjects.stop(FLEET), b"x", reply)
            node.publish(subjects.attest(FLEET, NODE), b"x", reply)
            node.publish(subjects.release(FLEET, NODE), b"x", reply)
    operator.flush()
    node.flush()
    assert_unmoved(living, changes)
    assert "does not go out" not in living.up.read_log()
    assert "bus-denied" not in living.up.read_log()
    assert count_lines(living) - lines <= LOG_LINES_MAX


def test_neither_person_nor_node_may_speak_as_the_control_plane(
    living: Any, operator: RawClient, node: RawClient
) -> None:
    changes = len(living.fleet.read_heard())
    for client in (operator, node):
        for subject in (
            subjects.beacon(FLEET, SERVICE),
            subjects.stop_down(FLEET),
            "FC_LEDGER",
            "fc.knight.up.host-2.x",
        ):
            client.publish(subject, b"x")
        client.flush()
        assert len(client.refused) == 4, client.refused
    assert_unmoved(living, changes)


def test_replayed_and_forged_beacons_change_nothing_and_buy_no_time(living: Any, stolen: RawClient) -> None:
    """Method: the last word of the control plane is said again and again after it was stopped; the permit ends."""
    fleet, subject = living.fleet, subjects.beacon(FLEET, SERVICE)
    stolen.subscribe(subject)
    beacons = list(stolen.listen(3))
    changes, lines = len(fleet.read_heard()), count_lines(living)
    author, issuer_bytes = load_key(living, "author"), beacons[0]
    allowed = ()
    forged = encode_frame(
        Beacon(
            VERSION, FLEET, SERVICE, bytes(16), 2**62, 0, 600_000, 1, 99,
            compute_content_digest(1, 99, SERVICE, allowed), allowed, (),
        ),
        author,
    )  # fmt: skip
    frames = [*beacons, forged, flip(issuer_bytes, 30), flip(issuer_bytes, 100), b"", issuer_bytes[:90], b"FCB1"]
    flood(stolen, frames, [subject], "")
    flood(stolen, [b"", b"\x93\xc3", forged], [subjects.stop_down(FLEET), subjects.lift(FLEET)], "")
    assert_unmoved(living, changes)
    assert count_lines(living) - lines <= LOG_LINES_MAX
    stopped_ns = send(living.up.pid, signal.SIGSTOP)
    while len(fleet.read_heard()) == changes:
        assert read_now_ns() - stopped_ns < 10 * 1e9, "replays keep the permit alive"
        stolen.publish(subject, stolen.heard[-1])
        time.sleep(0.02)  # the attack itself has this pace; nothing waits on it
    assert fleet.read_heard()[changes]["answer"] == "expired"
    assert fleet.read_acted()[1] - stopped_ns <= (MAX_AGE_S + SLACK_S) * 1e9
    send(living.up.pid, signal.SIGCONT)
    fleet.wait_heard("allowed", changes)
    fleet.wait_acting()


def test_no_broker_user_may_take_anything_out_of_the_ledger(living: Any, stolen: RawClient) -> None:
    for call in ("STREAM.PURGE.FC_LEDGER", "STREAM.DELETE.FC_LEDGER", "STREAM.MSG.DELETE.FC_LEDGER"):
        stolen.publish(f"$JS.API.{call}", b"{}", f"_INBOX.{stolen.user}.x")
    stolen.flush()
    assert len(stolen.refused) == 3, stolen.refused
    assert living.fleet.ask("ledger", "verify")["verdict"] == "whole"
