# SPDX-License-Identifier: Apache-2.0
"""Mornings told line by line: what was asked, what the ledger took, what was refused, who may run what.

Each story is compared with its text in stories/. `--rewrite` writes the texts anew: read the diff as carefully as code,
and keep it only when you can say why every line changed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from firecurtain.domain.commands import Arm
from firecurtain.domain.content import compute_allowed
from firecurtain.domain.events import (
    Armed,
    Event,
    NodeEnrolled,
    NodeExcluded,
    ReleaseApproved,
    ReleaseProposed,
    SessionOpened,
    StageOpened,
    StopRecorded,
    StopsLifted,
)
from firecurtain.domain.presence import Answer, Clone, Silence, Verdict
from firecurtain.terms import NS_PER_S, Refusal
from firecurtain.trust.release import Stage
from support.fleet_world import EVERY_NODE, SERVICE, World, make_artifact, make_release, make_token

STORIES = Path(__file__).parent / "stories"
FLAG = make_token(0x2012)
ARTIFACTS = ("old", "new", "newer", "homebrew")


class Teller:
    """Writes down what happens to a world, with names instead of digests."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names = {str(make_artifact(name)): name for name in ARTIFACTS}
        self.stops: dict[bytes, str] = {}
        self.world = World(nodes=8)
        self.begin_ns = self.world.now.issuer_ns
        self.say(f"#{self.world.state.seq:<3d} fleet {self.world.state.fleet} with {len(self.world.state.nodes)} nodes")
        self.world.watchers.append(self._tell_event)

    def say(self, text: str) -> None:
        self.lines.append(f"{(self.world.now.issuer_ns - self.begin_ns) / NS_PER_S:7.3f}  {self._rename(text)}")

    def refused(self, act: Callable[[], object]) -> None:
        """Carry out what must be refused and quote the refusal."""
        with pytest.raises(Refusal) as refusal:
            act()
        self.say(f"   REFUSED {refusal.value.code}: {refusal.value}")

    def verdict(self, node: str, artifact: str, session: str = "first") -> None:
        verdict: Verdict = self.world.attest(node, artifact, session)
        match verdict:
            case Answer():
                self.say(f"   {node} runs {artifact}: answered")
            case Silence(code, text):
                self.say(f"   {node} runs {artifact}: silence, {code}: {text}")
            case Clone(scope, text):
                self.say(f"   {node} runs {artifact}: CLONE, stop {scope}: {text}")

    def allowed(self) -> None:
        entries = [
            f"{entry.artifact} for {', '.join(entry.nodes) or 'every node'}"
            + (f", armed {', '.join(entry.armed)}" if entry.armed else "")
            for entry in compute_allowed(self.world.state, SERVICE)
        ]
        self.say(f"   allowed: {'; '.join(entries) or 'nothing'}")

    def run(self, seconds: int, artifact: str, but: tuple[str, ...] = (), but_artifact: str = "old") -> None:
        """Turns and attests once a second; the nodes in `but` attest something else."""
        for _ in range(seconds):
            while self.world.turn():
                pass
            self.world.attest_all(artifact, *but)
            for node in but:
                self.world.attest(node, but_artifact)
            self.world.wait(1)

    def _rename(self, text: str) -> str:
        for digest, name in [*self.names.items(), *((stop.hex(), name) for stop, name in self.stops.items())]:
            text = text.replace(digest, name).replace(digest[:12], name)
        return text

    def _tell_event(self, world: World, event: Event) -> None:
        if isinstance(event, ReleaseProposed):
            record = world.state.releases[event.release]
            self.names[event.release] = f"v{record.document.version}"
        if isinstance(event, StopRecorded):
            self.stops[event.id] = f"stop-{len(self.stops) + 1}"
        self.say(f"#{world.state.seq:<3d} {describe(event)}")


def describe(event: Event) -> str:
    """One event for people."""
    match event:
        case NodeEnrolled():
            return f"{event.node} enrolled in {event.service}"
        case SessionOpened():
            return f"{event.node} opens a session"
        case ReleaseProposed():
            return f"release {event.release} proposed"
        case ReleaseApproved():
            return f"release {event.release} approved{', complete' if event.complete else ''}"
        case StageOpened():
            return f"stage {event.stage} of release {event.release} opened"
        case Armed():
            return f"release {event.release} ARMED {', '.join(event.tokens)}"
        case StopRecorded():
            return f"{event.kind} {event.id.hex()} of {event.scope}: {event.reason}"
        case NodeExcluded():
            return f"{event.node} excluded by {event.stop.hex()}"
        case StopsLifted():
            return f"lifted: {', '.join(stop.hex() for stop in event.ids)}"
        case _:
            return repr(event)


def tell_one_server_misses_the_update_and_the_policy_is_hold(tell: Teller) -> None:
    """Flags stay unarmed while one node lags; a person takes it out and the seven go on."""
    release = begin_with_new_release(tell, "hold")
    tell.run(3, "new", but=("host-8",))
    tell.verdict("host-8", "old")
    tell.verdict("host-1", "new")
    tell.refused(lambda: tell.world.do(Arm(release)))
    tell.allowed()
    tell.say("an operator takes host-8 out")
    tell.world.exclude("host-8")
    tell.verdict("host-8", "old")
    tell.run(6, "new")
    tell.allowed()


def tell_one_server_misses_the_update_and_the_policy_is_exclude(tell: Teller) -> None:
    """The rollout takes the straggler out by itself once the others have run for two seconds."""
    begin_with_new_release(tell, "exclude")
    tell.run(8, "new", but=("host-8",))
    tell.verdict("host-8", "old")
    tell.allowed()


def tell_a_rollback_that_would_wake_the_old_code(tell: Teller) -> None:
    """The request of the morning of 2012: put the old code back on the seven while the flag stays on."""
    begin_with_new_release(tell, "hold")
    tell.run(6, "new")
    tell.allowed()
    tell.say("roll the code back, leave the flag on")
    tell.refused(lambda: tell.world.propose(make_release(3, "old")))
    tell.say("disarm first")
    disarm = tell.world.stop(f"token:{FLAG}", "disarm", "rolling back")
    release = tell.world.release(3, "old", lifts_fences=())
    tell.refused(lambda: tell.world.release(4, "old", lifts_fences=("00" * 16,)))
    assert tell.world.turn() == ()
    tell.say("the disarm has not run out yet")
    tell.run(4, "old")
    assert tell.world.state.releases[release].stages
    tell.allowed()
    tell.say("forward again, with one release that takes the disarm back")
    fences = (disarm.hex(),)
    tell.world.release(4, "newer", tokens=(FLAG,), arms=(FLAG,), lifts_fences=fences)
    tell.run(6, "newer")
    tell.allowed()


def tell_a_first_stage_of_two_nodes(tell: Teller) -> None:
    """The older release goes on elsewhere, and nothing is armed before the last gate."""
    tell.world.release(1, "old")
    tell.run(2, "old")
    stages = (Stage("first", ("host-1", "host-2")), Stage("rest", EVERY_NODE))
    tell.world.release(2, "new", tokens=(FLAG,), arms=(FLAG,), stages=stages)
    while tell.world.turn():
        pass
    tell.allowed()
    tell.verdict("host-1", "old")
    tell.verdict("host-3", "old")
    tell.verdict("host-3", "new")
    tell.verdict("host-1", "new")
    assert tell.world.turn() == ()
    tell.verdict("host-2", "new")
    while tell.world.turn():
        pass
    tell.allowed()
    tell.run(5, "new")
    tell.allowed()


def tell_an_old_image_comes_back_beside_an_armed_flag(tell: Teller) -> None:
    """Restored, cloned, scaled in, enrolled again: none of them is permitted anything."""
    begin_with_new_release(tell, "hold")
    tell.run(6, "new")
    tell.say("host-3 is restored from an old image and starts again")
    tell.verdict("host-3", "old", "restored")
    tell.world.wait(6)
    tell.verdict("host-3", "old", "restored")
    tell.say("a new host of the old image is enrolled")
    tell.world.enrol("host-9")
    tell.verdict("host-9", "old")
    tell.say("a copy of host-1 speaks")
    tell.world.numbers.clear()
    tell.verdict("host-1", "old")
    tell.say("host-2 is taken out, its stop is lifted, and it is enrolled again with the old image")
    stop_id = tell.world.exclude("host-2")
    tell.refused(lambda: tell.world.enrol("host-2"))
    tell.world.lift(stop_id)
    tell.world.enrol("host-2")
    tell.world.wait(6)
    tell.verdict("host-2", "old", "enrolled again")
    tell.say("somebody wants the fence lifted")
    fence = next(stop.id for stop in tell.world.state.stops.values() if stop.kind == "fence")
    tell.refused(lambda: tell.world.lift(fence))
    tell.allowed()


def begin_with_new_release(tell: Teller, on_straggler: str) -> str:
    """The old release everywhere, then the new one approved."""
    tell.world.release(1, "old")
    tell.run(2, "old")
    return tell.world.release(2, "new", tokens=(FLAG,), arms=(FLAG,), on_straggler=on_straggler, min_nodes=7)


TALES = [value for name, value in sorted(globals().items()) if name.startswith("tell_")]


@pytest.mark.parametrize("tale", TALES, ids=lambda tale: tale.__name__.removeprefix("tell_"))
def test_the_story_is_told_as_ever(tale: Callable[[Teller], None], request: pytest.FixtureRequest) -> None:
    """Goal: every observable decision of a morning stays as it was. Method: golden text, rewritten on purpose only."""
    tell = Teller()
    tale(tell)
    told = f"{tale.__doc__}\n\n" + "\n".join(tell.lines) + "\n"
    path = STORIES / f"{tale.__name__.removeprefix('tell_')}.txt"
    if request.config.getoption("--rewrite"):
        path.write_text(told, encoding="utf-8")
    assert told == path.read_text(encoding="utf-8"), f"{path.name} differs; if it should, run pytest --rewrite"


def test_every_story_on_disk_is_told() -> None:
    told = {f"{tale.__name__.removeprefix('tell_')}.txt" for tale in TALES}
    assert {path.name for path in STORIES.iterdir()} == told
