# SPDX-License-Identifier: Apache-2.0
"""A whole agent over the in-memory bus, with a real service process and a real permit page."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from firecurtain.agent.core import machine
from firecurtain.agent.latch import LatchError
from firecurtain.bus.port import Bus, NoAnswer, Report, Unavailable
from firecurtain.terms import BusError, InvariantError
from firecurtain.trust.envelope import RELEASE_TYPE
from firecurtain.trust.release import encode_release
from firecurtain.trust.sign import sign_envelope
from support.agent_rig import NODE, SOURCE, TOKEN, Rig, make_stop, until


async def start_permitted(rig: Rig) -> str:
    """An agent whose service holds a permit; returns the release."""
    release, _ = rig.make_release(1)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent()
    await until(lambda: rig.permit, "a permit")
    return release


def is_alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def read_pid(rig: Rig) -> int:
    running = rig.control.attests[-1].running
    assert running is not None
    return running.pid


async def test_a_node_that_runs_an_allowed_release_gets_its_permit_with_armed_tokens(rig: Rig) -> None:
    release = await start_permitted(rig)
    assert rig.permit is not None
    assert (rig.permit.grant.release, rig.permit.grant.armed) == (release, frozenset({TOKEN}))
    assert (Path(rig.config.page_path).parent / f"limits-{rig.permit.grant.limits}.json").exists()


async def test_an_agent_starts_while_the_control_plane_is_down_and_the_service_with_it(rig: Rig) -> None:
    await start_permitted(rig)
    await rig.control.stop()
    await rig.stop_agent()
    rig.broker.is_down = True
    await rig.start_agent()
    await until(lambda: "expired" in rig.denial, "a closed page that says why")
    rig.broker.is_down = False
    await rig.start_control()
    await until(lambda: rig.permit, "a permit once the control plane is back")


async def test_silence_of_the_control_plane_ends_the_permit_within_max_age(rig: Rig) -> None:
    await start_permitted(rig)
    begun_ns = time.monotonic_ns()
    await rig.control.stop()
    await until(lambda: not rig.permit, "the end of the permit")
    assert time.monotonic_ns() - begun_ns < 1_600_000_000
    await until(lambda: "expired" in rig.denial, "the reason")


@pytest.mark.parametrize("error", [NoAnswer("no issuer yet", nobody_listens=True), Unavailable("no broker yet")])
async def test_an_issuer_that_starts_hears_at_once_what_a_node_remembers(rig: Rig, error: BusError) -> None:
    asked: list[str] = []
    is_down = False

    async def connect(report: Report) -> Bus:
        bus = await rig.connect(report)
        ask = bus.ask

        async def ask_or_fail(subject: str, message: bytes, timeout_s: float) -> bytes:
            asked.append(subject)
            if is_down:
                raise error
            return await ask(subject, message, timeout_s)

        bus.ask = ask_or_fail  # type: ignore[method-assign]  # a fault is put in
        return bus

    release, _ = rig.make_release(1)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent(connect)
    await until(lambda: rig.permit, "a permit")
    is_down = True
    asked.clear()
    await until(lambda: asked, "an attest that nobody hears")
    is_down = False
    seen, begun_ns = len(rig.control.attests), time.monotonic_ns()
    await until(lambda: len(rig.control.attests) > seen, "an attest that is heard")
    assert time.monotonic_ns() - begun_ns < 250_000_000, "an issuer waits so long before its first beacon"


async def test_no_answer_to_the_attests_ends_the_permit_and_says_so(rig: Rig) -> None:
    await start_permitted(rig)
    rig.control.answers = False
    await until(lambda: "not-enrolled" in rig.denial, "the end of the permit")
    rig.control.answers = True
    await until(lambda: rig.permit, "a permit again, by itself")


async def test_one_flipped_byte_of_the_running_artifact_ends_the_permit_within_two_seconds(rig: Rig) -> None:
    release, sealed = rig.make_release(1)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent()
    await until(lambda: rig.permit, "a permit")
    path = sealed.path / "main.py"
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    path.chmod(0o444)
    await until(lambda: not rig.permit, "the end of the permit", limit_s=2.0)
    await until(lambda: "not-attested" in rig.denial, "the reason")
    await asyncio.sleep(0)
    assert rig.control.attests[-1].running is None or rig.permit is None


async def test_a_stop_closes_the_page_is_acknowledged_and_survives_a_restart(rig: Rig) -> None:
    await start_permitted(rig)
    stop = make_stop("service:router")
    await rig.control.cast_stop(stop)
    await until(lambda: "stop-in-force" in rig.denial, "a closed page", limit_s=1.0)
    await until(lambda: stop.id in rig.control.attests[-1].latched, "the acknowledgement", limit_s=0.5)
    await rig.stop_agent()
    await rig.start_agent()
    await until(lambda: len(rig.control.attests) and stop.id in rig.control.attests[-1].latched, "the memory of it")
    await until(lambda: "stop-in-force" in rig.denial, "a closed page after the restart")


async def test_only_enough_approvers_lift_a_stop(rig: Rig) -> None:
    await start_permitted(rig)
    stop = make_stop(f"node:{NODE}")
    rig.control.stops = (stop,)
    await until(lambda: "stop-in-force" in rig.denial, "a closed page")
    rig.control.stops = ()
    await rig.control.cast_lift(stop.id, approvers=1)
    seen = len(rig.control.attests)
    await until(lambda: len(rig.control.attests) > seen, "another attest")
    assert "stop-in-force" in rig.denial
    await rig.control.cast_lift(stop.id)
    await until(lambda: rig.permit, "a permit after the lift")


async def test_a_release_that_takes_back_a_fence_lifts_it_on_the_node_too(rig: Rig) -> None:
    """Going back needs no more steps than going forward: the node verifies the release itself and lifts the fence."""
    await start_permitted(rig)
    fence = make_stop(f"token:{TOKEN}", "disarm")
    await rig.control.cast_stop(fence)
    await until(lambda: rig.permit and not rig.permit.grant.armed, "a permit without the token")
    newer, _ = rig.make_release(2, lifts_fences=(fence.id.hex(),))
    await rig.control.cast_proof(rig.envelopes[newer])
    await until(lambda: rig.permit and rig.permit.grant.armed, "the token armed again")


async def test_a_release_that_names_a_halt_does_not_lift_it(rig: Rig) -> None:
    await start_permitted(rig)
    halt, fence = make_stop("fleet"), make_stop(f"token:{TOKEN}", "disarm")
    await rig.control.cast_stop(halt)
    await rig.control.cast_stop(fence)
    await until(lambda: {halt.id, fence.id} <= set(rig.control.attests[-1].latched), "both latched")
    newer, _ = rig.make_release(2, lifts_fences=tuple(sorted((halt.id.hex(), fence.id.hex()))))
    await rig.control.cast_proof(rig.envelopes[newer])
    await until(lambda: rig.control.attests[-1].latched == (halt.id,), "the fence lifted, and only that")
    assert "stop-in-force" in rig.denial


async def test_a_stop_of_one_token_narrows_the_permit_and_leaves_the_rest(rig: Rig) -> None:
    await start_permitted(rig)
    await rig.control.cast_stop(make_stop(f"token:{TOKEN}", "disarm"))
    await until(lambda: rig.permit and not rig.permit.grant.armed, "a permit without the token")


async def test_a_newer_release_replaces_the_process(rig: Rig) -> None:
    old = await start_permitted(rig)
    old_pid = read_pid(rig)
    new, sealed = rig.make_release(2)
    rig.control.allow(old, new)
    await until(lambda: rig.permit and rig.permit.grant.release == new, "a permit for the newer release")
    assert rig.permit is not None
    assert rig.permit.grant.artifact == sealed.digest
    assert not is_alive(old_pid)
    assert is_alive(read_pid(rig))


async def test_a_node_without_the_new_artifact_stays_without_permit_and_says_both_digests(rig: Rig) -> None:
    old = await start_permitted(rig)
    new, sealed = rig.make_release(2)
    for path in sorted(sealed.path.rglob("*"), reverse=True):
        path.chmod(0o755)
    sealed.path.chmod(0o755)
    sealed.path.rename(rig.directory / "elsewhere")
    rig.control.allow(new)
    await until(lambda: "release-mismatch" in rig.denial, "a denial")
    assert rig.releases[old].artifact[:12] in rig.denial
    assert sealed.digest[:12] in rig.denial


async def test_a_service_that_dies_loses_its_permit_and_is_started_again(rig: Rig) -> None:
    await start_permitted(rig)
    pid = read_pid(rig)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not rig.permit, "the end of the permit", limit_s=1.0)
    await until(lambda: rig.permit, "a permit for the next process")
    assert read_pid(rig) != pid


async def test_an_agent_that_is_told_to_stop_closes_the_page_and_leaves_no_process(rig: Rig) -> None:
    await start_permitted(rig)
    pid = read_pid(rig)
    await rig.stop_agent()
    assert "no-agent" in rig.denial
    assert not is_alive(pid)


async def test_the_guards_counters_reach_the_control_plane(rig: Rig) -> None:
    source = (
        "from firecurtain.permit import SlotWriter, PERMIT_VARIABLE\nimport os, signal\n"
        "SlotWriter(os.environ[PERMIT_VARIABLE]).add_counter('send-order:sent').add(7)\n" + SOURCE
    )
    release, _ = rig.make_release(1, source)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent()
    await until(
        lambda: rig.control.counters and ("send-order:sent", 7) in rig.control.counters[-1].totals, "the counter"
    )
    await until(lambda: ("send-order:sent", 7) in rig.control.attests[-1].totals, "the same total in a signed attest")
    os.kill(read_pid(rig), signal.SIGKILL)
    await until(lambda: ("send-order:sent", 14) in rig.control.counters[-1].totals, "both processes' counts together")


async def test_a_stop_that_cannot_be_written_down_is_not_acknowledged_and_the_page_stays_zero(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop is of another node: only the failing disk closes this page."""
    await start_permitted(rig)
    monkeypatch.setattr("firecurtain.agent.latch.os.fsync", _fail)
    stop = make_stop("node:host-2")
    await rig.control.cast_stop(stop)
    await until(lambda: "could not be made durable" in rig.denial, "a closed page")
    seen = len(rig.control.attests)
    await until(lambda: len(rig.control.attests) > seen + 1, "two more attests")
    assert stop.id not in rig.control.attests[-1].latched
    assert rig.permit is None


def _fail(_descriptor: int) -> None:
    raise OSError(28, "No space left on device")


async def test_a_damaged_latch_is_refused_and_a_torn_end_is_not(rig: Rig) -> None:
    await start_permitted(rig)
    for scope in ("node:host-2", "node:host-3"):
        stop = make_stop(scope)
        await rig.control.cast_stop(stop)
        await until(lambda stop=stop: stop.id in rig.control.attests[-1].latched, "the acknowledgement")
    await rig.stop_agent()
    path = rig.config.state_dir / "stops.latch"
    whole = path.read_bytes()
    path.write_bytes(whole + b"1234abcd 9345")
    await rig.start_agent()
    await until(lambda: rig.permit, "a permit: nothing was forgotten")
    await rig.stop_agent()
    assert path.read_bytes() == whole
    path.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    await rig.start_agent()
    with pytest.raises(LatchError, match="damaged"):
        await rig.stop_agent()
    assert rig.permit is None


async def test_an_envelope_that_too_few_people_signed_gives_no_permit(rig: Rig) -> None:
    release, _ = rig.make_release(1)
    document = rig.releases[release]
    signers = [rig.keys.signers[name] for name in ("author", "approver-1")]
    rig.envelopes[release] = sign_envelope(encode_release(document), RELEASE_TYPE, signers)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent()
    await until(lambda: len(rig.control.attests) > 1, "two attests, so that the envelope was asked for")
    assert rig.control.attests[-1].running is None
    assert "not-attested" in rig.denial
    assert not list((rig.config.state_dir / "releases").glob("*.dsse"))


async def test_another_interpreter_than_the_signed_one_is_not_started(rig: Rig) -> None:
    rig.config = msgspec.structs.replace(rig.config, interpreter=Path("/bin/sh"))
    release, _ = rig.make_release(1)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent()
    await until(lambda: "the release was signed for" in rig.denial, "the reason")


async def test_no_second_process_while_a_child_of_the_first_holds_the_lock(rig: Rig) -> None:
    source = (
        "import os, signal\nfrom pathlib import Path\n"
        "pid_file = Path(os.environ['FIRECURTAIN_PERMIT']).with_name('child')\n"
        "if not pid_file.exists() and os.fork() == 0:\n"
        "    pid_file.write_text(str(os.getpid()))\n"
        "    signal.pause()\n" + SOURCE
    )
    release, _ = rig.make_release(1, source)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent()
    await until(lambda: rig.permit, "a permit")
    pid_file = rig.config.runtime_dir / "child"
    await until(lambda: pid_file.exists() and pid_file.read_text(), "the child")
    try:
        os.kill(read_pid(rig), signal.SIGKILL)
        await until(lambda: "two of one service must not act" in rig.denial, "the refusal to start a second one")
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)
    await until(lambda: rig.permit, "a permit once the child has ended")


async def collect_nonces(rig: Rig) -> list[bytes]:
    """The nonces of an agent over two of its lives."""
    for _ in range(2):
        seen = len(rig.control.attests)
        await rig.start_agent()
        await until(lambda seen=seen: len(rig.control.attests) > seen + 1, "two attests")
        await rig.stop_agent()
    return [attest.nonce for attest in rig.control.attests]


async def test_no_nonce_comes_twice_and_a_guessable_one_would_be_seen(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, _ = rig.make_release(1)
    rig.control.allow(release)
    await rig.start_control()
    nonces = await collect_nonces(rig)
    assert len(set(nonces)) == len(nonces)
    rig.control.attests.clear()
    monkeypatch.setattr("firecurtain.agent.exchange.secrets.token_bytes", lambda size: b"7" * size)
    nonces = await collect_nonces(rig)
    assert len(set(nonces)) < len(nonces), "the fault, seen"


async def test_a_lost_connection_is_tried_at_once_and_not_with_the_next_exchange(rig: Rig) -> None:
    reports: list[Report] = []

    async def connect(report: Report) -> Bus:
        reports.append(report)
        return await rig.connect(report)

    release, _ = rig.make_release(1)
    rig.control.allow(release)
    await rig.start_control()
    await rig.start_agent(connect)
    await until(lambda: rig.permit, "a permit")
    seen = len(rig.control.attests)
    await until(lambda: len(rig.control.attests) > seen, "the attest of this second")
    seen, begun_ns = len(rig.control.attests), time.monotonic_ns()
    for report in reports:
        report(Unavailable("the broker went away"))
    await until(lambda: len(rig.control.attests) > seen, "another one")
    assert time.monotonic_ns() - begun_ns < 250_000_000


async def test_an_answer_that_cannot_be_carried_out_ends_the_agent_with_its_page_closed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Goal: the core never goes on while it is ahead of its page. Method: fail between the two, in an answer's task."""
    await start_permitted(rig)

    def fail(*_: object) -> None:
        raise InvariantError("the page could not be written")

    monkeypatch.setattr(machine, "on_answer", fail)
    await until(rig.is_over, "the end of the agent", limit_s=5.0)
    assert rig.permit is None
    with pytest.raises(ExceptionGroup) as raised:
        await rig.stop_agent()
    assert raised.group_contains(InvariantError, match="could not be written")
