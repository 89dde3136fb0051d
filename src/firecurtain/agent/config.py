# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: one TOML file in which an unknown key is an error. It holds a password, so nobody else may
read it. Relative paths count from the file.
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from firecurtain.terms import ConfigError
from firecurtain.wire.messages import Name

_UNKNOWN = re.compile(r"unknown field `(.+?)`")


class BusConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the broker is, and as whom this node speaks to it."""

    url: str
    user: str
    password: str

    def __repr__(self) -> str:
        return f"BusConfig(url={self.url!r}, user={self.user!r})"


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What one agent needs to know.

    `root` is the root envelope, `node_key` this node's private key, `store` holds artifacts as `<digest>/`,
    `state_dir` the latches and release envelopes, `runtime_dir` (on tmpfs) the permit page and counters; `argv` follows
    the release's entrypoint.
    """

    fleet: Name
    service: Name
    node: Name
    root: Path
    node_key: Path
    bus: BusConfig
    state_dir: Path
    store: Path
    runtime_dir: Path
    interpreter: Path = Path(sys.executable)
    argv: tuple[str, ...] = ()

    @property
    def page_path(self) -> str:
        return str(self.runtime_dir / "permit.page")


def load_config(path: Path) -> AgentConfig:
    """Read the file. Raises: ConfigError: unreadable, readable by others, unknown key or wrong value."""
    try:
        mode = path.stat().st_mode & 0o777
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Name the agent's configuration file.") from error
    values = _parse(text, path)
    if mode & 0o077:
        raise ConfigError(f"{path} has mode {mode:04o} and holds a password. Do: chmod 600 {path}")
    try:
        config = msgspec.convert(values, AgentConfig, dec_hook=_make_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}.{_suggest(str(error))}") from error
    return resolve_paths(config, path.resolve().parent)


def _parse(text: str, path: Path) -> dict[str, Any]:
    """Judged before the mode: who named the wrong file need not change its mode."""
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}. Correct it.") from error
    if "keys_dir" in values:
        raise ConfigError(
            f"{path} names a keys_dir: it is the configuration of people and of the control plane, an agent has its "
            "own. Name the agent.toml that `firecurtain node enrol` wrote."
        )
    return values


def resolve_paths(config: AgentConfig, folder: Path) -> AgentConfig:
    """Count relative paths from `folder`."""
    names = ("root", "node_key", "state_dir", "store", "runtime_dir", "interpreter")
    return msgspec.structs.replace(config, **{name: folder / getattr(config, name) for name in names})


def _make_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected a {kind.__name__}, got {value!r}")


def _suggest(text: str) -> str:
    match = _UNKNOWN.search(text)
    if match is None:
        return f" The keys are {', '.join(AgentConfig.__struct_fields__)}."
    known = (*AgentConfig.__struct_fields__, *BusConfig.__struct_fields__)
    return f" The nearest known key is `{difflib.get_close_matches(match[1], known, n=1, cutoff=0.0)[0]}`."
