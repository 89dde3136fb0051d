# SPDX-License-Identifier: Apache-2.0
"""What `decide` is asked: the requests of people and the steps the control plane's own shell takes.

A `Request` has already been authenticated (signature and single-use challenge) by the shell. A `RecordStop` tells of a
stop that is durable in the issuer's latch: it is the one command that is never refused. Commands are not stored;
events are.
"""

from __future__ import annotations

import msgspec

from firecurtain.wire.commands import AnyBody
from firecurtain.wire.messages import StopEntry


class CommandBase(msgspec.Struct, frozen=True):
    """Base of every command."""


class Request(CommandBase, frozen=True):
    """What one operator signed. `by` is the eight-byte id of the operator's key."""

    by: bytes
    body: AnyBody


class FoundFleet(CommandBase, frozen=True):
    """Begin the ledger: `root` is the root envelope, which also names the fleet."""

    fleet: str
    epoch: int
    root: bytes


class RecordStop(CommandBase, frozen=True):
    """Tell the ledger of a stop that the issuer on `clock_id` had fsynced by `durable_ns`."""

    entry: StopEntry
    author: bytes
    clock_id: bytes
    durable_ns: int


class OpenSession(CommandBase, frozen=True):
    """Accept a node's new agent start; from then on only this session is answered."""

    node: str
    session: bytes


class OpenStage(CommandBase, frozen=True):
    """Call the nodes of one stage to a release."""

    release: str
    stage: str


class Arm(CommandBase, frozen=True):
    """Arm the tokens that a release names."""

    release: str


class Exclude(CommandBase, frozen=True):
    """Take a node out of the roster; `stop_id` is the stop, already recorded, that covers it."""

    node: str
    stop_id: bytes
    by: bytes


Command = Request | FoundFleet | RecordStop | OpenSession | OpenStage | Arm | Exclude


def compute_name(command: Command) -> str:
    """The command's name for records and people: the body's, when a person asked.

    >>> compute_name(Arm("ab" * 32))
    'Arm'
    """
    return type(command.body if isinstance(command, Request) else command).__name__


def compute_author(command: Command) -> bytes:
    """The key id of the person behind the command, empty for the control plane's own steps.

    >>> compute_author(Arm("ab" * 32))
    b''
    """
    return command.by if isinstance(command, Request | Exclude) else b""
