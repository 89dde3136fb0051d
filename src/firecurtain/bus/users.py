# SPDX-License-Identifier: Apache-2.0
"""Who may publish and hear what: broker users, the subjects of a fleet and the permissions of each kind of user.

A node may publish only below its own subject, so nobody can speak for another node, and beacons come from the control
plane alone. No user at all may delete the ledger stream. This module draws no passwords: the caller does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LEDGER_STREAM = "FC_LEDGER"
LEDGER_SUBJECT = "FC_LEDGER"  # outside `fc.>`, so that no wildcard given to a node or operator ever covers it

_LEDGER_CALLS = (
    "STREAM.CREATE.{s}",
    "STREAM.INFO.{s}",
    "STREAM.MSG.GET.{s}",
    "CONSUMER.CREATE.{s}.>",
    "CONSUMER.DELETE.{s}.>",
    "CONSUMER.MSG.NEXT.{s}.>",
)


@dataclass(frozen=True, slots=True)
class User:
    """One broker user. Subjects not listed are refused; an empty tuple refuses everything.

    >>> User("host-8", "secret", publish=("fc.knight.up.host-8.>",), subscribe=())
    User(name='host-8', publish=('fc.knight.up.host-8.>',), subscribe=())
    """

    name: str
    password: str = field(repr=False)
    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(name: str) -> str:
    """Where answers to this user go: a private subject, so that no user reads another's answers.

    >>> inbox_prefix("host-8")
    '_INBOX.host-8'
    """
    return f"_INBOX.{name}"


def control_user(fleet: str, name: str, password: str) -> User:
    """The control plane: everything of its fleet, answers to anyone, and the ledger, which even it cannot delete."""
    calls = tuple("$JS.API." + call.format(s=LEDGER_STREAM) for call in _LEDGER_CALLS)
    return User(
        name,
        password,
        publish=(f"fc.{fleet}.>", "_INBOX.>", LEDGER_SUBJECT, *calls),
        subscribe=(f"fc.{fleet}.>", f"{inbox_prefix(name)}.>"),
    )


def node_user(fleet: str, node: str, password: str) -> User:
    """A node: speaks below its own subject, hears the control plane and everybody's stops."""
    return User(
        node,
        password,
        publish=(f"fc.{fleet}.up.{node}.>",),
        subscribe=(f"fc.{fleet}.down.>", f"fc.{fleet}.stop", f"{inbox_prefix(node)}.>"),
    )


def operator_user(fleet: str, name: str, password: str) -> User:
    """A person's command line: signed commands and stops, and their answers."""
    return User(
        name,
        password,
        publish=(f"fc.{fleet}.cmd.>", f"fc.{fleet}.stop"),
        subscribe=(f"fc.{fleet}.down.>", f"{inbox_prefix(name)}.>"),
    )


def covers(pattern: str, subject: str) -> bool:
    """Does `pattern` cover `subject`? `*` is one word, a trailing `>` one or more; `subject` may carry them too.

    >>> covers("fc.knight.up.*.attest", "fc.knight.up.host-8.attest"), covers("fc.>", "fc"), covers("fc.*", "fc.>")
    (True, False, False)
    """
    wanted, words = pattern.split("."), subject.split(".")
    for index, word in enumerate(wanted):
        if word == ">":
            return len(words) > index
        if index >= len(words) or words[index] == ">" or word not in ("*", words[index]):
            return False
    return len(wanted) == len(words)
