# SPDX-License-Identifier: Apache-2.0
"""Broker passwords: one random word per node, one for people, one for ourselves, kept in state_dir with mode 0600.

They keep honest programs apart and strangers out of a loopback broker; what decides anything is signed by keys. The
caller draws the random words. A password is made once and kept, so that a restart locks nobody out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from firecurtain.bus.users import User, control_user, node_user, operator_user
from firecurtain.terms import ConfigError

CONTROL = "_control"
OPERATOR = "_operator"
# The names of nodes never start with a sign, so no node can be called like these two.


class Credentials:
    """The passwords of one state directory; `draw` makes a new word."""

    def __init__(self, state_dir: Path, fleet: str, draw: Callable[[], str]) -> None:
        self._path = state_dir / "passwords.json"
        self._operator_path = state_dir / "operator.json"
        self._fleet = fleet
        self._draw = draw
        self._passwords = _read_passwords(self._path)

    def make_users(self, nodes: Iterable[str]) -> tuple[User, ...]:
        """The broker's users: ourselves, people, and these nodes. New words are on disk before this returns.

        Raises: ConfigError: they cannot be written.
        """
        names = sorted(nodes)
        missing = [name for name in (CONTROL, OPERATOR, *names) if name not in self._passwords]
        if missing:
            passwords = self._passwords | {name: self._draw() for name in missing}
            write_private(self._path, json.dumps(passwords, indent=1))
            self._passwords = passwords
        write_private(
            self._operator_path, json.dumps({"user": OPERATOR, "password": self._passwords[OPERATOR]}, indent=1)
        )
        return (
            control_user(self._fleet, CONTROL, self._passwords[CONTROL]),
            operator_user(self._fleet, OPERATOR, self._passwords[OPERATOR]),
            *(node_user(self._fleet, name, self.get_node_password(name)) for name in names),
        )

    def find_nodes(self) -> tuple[str, ...]:
        """Every node that ever got a password here: all of them may connect as soon as the broker starts."""
        return tuple(name for name in self._passwords if name not in (CONTROL, OPERATOR))

    @property
    def control_password(self) -> str:
        return self._passwords[CONTROL]

    def get_node_password(self, node: str) -> str:
        """The password of a node that `make_users` was asked for."""
        return self._passwords[node]


def write_private(path: Path, text: str) -> None:
    """Write a file only we may read, whole or not at all, durable on return. Raises: ConfigError."""
    new = path.with_suffix(".new")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}. Make room on its disk, then try again.") from error


def _read_passwords(path: Path) -> dict[str, str]:
    try:
        passwords = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {error}. Restore it, or delete it and enrol every node again."
        ) from error
    if not isinstance(passwords, dict) or not all(isinstance(word, str) for word in passwords.values()):
        raise ConfigError(f"{path} is not a table of passwords. Restore it, or delete it and enrol every node again.")
    return passwords
