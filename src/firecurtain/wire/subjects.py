# SPDX-License-Identifier: Apache-2.0
"""Where each message travels: a node publishes only below its own subject, only the control plane speaks downwards."""

from __future__ import annotations


def beacon(fleet: str, service: str) -> str:
    """Control plane to agents, every p. `Beacon` frames."""
    return f"fc.{fleet}.down.beacon.{service}"


def stop_down(fleet: str) -> str:
    """Control plane to agents, any time. `Stop` frames."""
    return f"fc.{fleet}.down.stop"


def stop(fleet: str) -> str:
    """Anyone with a stop key, to agents and control plane alike. `Stop` frames."""
    return f"fc.{fleet}.stop"


def lift(fleet: str) -> str:
    """Control plane to agents, any time. `Lift` messages."""
    return f"fc.{fleet}.down.lift"


def attest(fleet: str, node: str) -> str:
    """Agent asks, control plane answers or keeps silent. `Attest` and `Answer` frames. Node `*` listens to all."""
    return f"fc.{fleet}.up.{node}.attest"


def counters(fleet: str, node: str) -> str:
    """Agent to control plane at 10 Hz. `Counters` messages."""
    return f"fc.{fleet}.up.{node}.counters"


def node_stop(fleet: str, node: str) -> str:
    """An agent's stop for itself, up to the control plane. `Stop` frames."""
    return f"fc.{fleet}.up.{node}.stop"


def release(fleet: str, node: str) -> str:
    """Agent asks for a release envelope by its digest as text; the reply is the envelope, empty if unknown."""
    return f"fc.{fleet}.up.{node}.release"


def hello(fleet: str) -> str:
    """An operator asks for a challenge: 16 bytes."""
    return f"fc.{fleet}.cmd.hello"


def command(fleet: str) -> str:
    """An operator asks, the control plane answers. `Command` and `Reply` frames."""
    return f"fc.{fleet}.cmd.do"


def release_for_people(fleet: str) -> str:
    """As `release`, for an operator; the reply is the envelope with the signatures so far, complete or not."""
    return f"fc.{fleet}.cmd.release"
