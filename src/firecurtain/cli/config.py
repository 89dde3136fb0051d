# SPDX-License-Identifier: Apache-2.0
"""firecurtain.toml: one file, looked for in three places, in which an unknown key is an error.

Order: --config, then ./firecurtain.toml, then /etc/firecurtain/firecurtain.toml. Relative paths count from the file.
This module reads; it creates nothing, and it imports little because `halt` waits for it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from firecurtain.terms import ConfigError
from firecurtain.wire.messages import Name

T = TypeVar("T", bound=msgspec.Struct)

FILE_NAME = "firecurtain.toml"
SYSTEM_FILE = Path("/etc/firecurtain") / FILE_NAME


class Broker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the control plane's broker is, when it runs on another machine."""

    url: str
    user: str
    password_file: Path


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person's command line and the control plane need to know of a fleet.

    `operator`, `stop` and `issuer` name key files in `keys_dir`: the one commands are signed with, the one halts are
    signed with, and the control plane's own.
    """

    fleet: Name
    state_dir: Path
    keys_dir: Path
    root: Path
    operator: Name = "operator"
    stop: Name = "operator"
    issuer: Name = "issuer"
    disk_reserve_bytes: int = 64 * 1024 * 1024
    broker: Broker | None = None


def read_config(chosen: Path | None) -> Config:
    """Read the first file that exists, its paths made absolute.

    Raises: ConfigError: no file, not TOML, an unknown key (named with the nearest known one) or a wrong value.
    """
    path = find_config(chosen)
    return resolve_paths(convert(read_toml(path), Config, path), path.resolve().parent)


def find_config(chosen: Path | None) -> Path:
    """The file to read. Raises: ConfigError."""
    if chosen is not None:
        if chosen.is_file():
            return chosen
        raise ConfigError(f"--config names {chosen}, which is no file. Make a fleet: firecurtain init DIR --fleet NAME")
    for path in (Path(FILE_NAME), SYSTEM_FILE):
        if path.is_file():
            return path
    raise ConfigError(
        f"neither ./{FILE_NAME} nor {SYSTEM_FILE} exists. Make a fleet: firecurtain init DIR --fleet NAME, "
        "then work in DIR or name the file with --config."
    )


def read_toml(path: Path) -> dict[str, object]:
    """Raises: ConfigError: unreadable or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error


def convert(document: dict[str, object], kind: type[T], path: Path) -> T:
    """Fill a struct from a TOML document. Raises: ConfigError: names the key, and the nearest known one."""
    for place, known, found in find_unknown_keys(document, kind, "$"):
        # Imported here: only a mistake pays for it.
        from difflib import get_close_matches

        nearest = get_close_matches(found, known, n=1, cutoff=0.0)[0]
        raise ConfigError(f"{path}: unknown key `{found}` at {place}; the nearest known key is `{nearest}`.")
    try:
        return msgspec.convert(document, kind, dec_hook=_make_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}. The keys are {', '.join(kind.__struct_fields__)}.") from error


def _make_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(f"expected a {kind.__name__}, got {value!r}")


def find_unknown_keys(
    document: dict[str, object], kind: type[msgspec.Struct], place: str
) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """Every key no struct knows, as (place, known keys, key); tables inside are searched too."""
    inner = {"broker": Broker} if kind is Config else {}
    for key, value in document.items():
        if key not in kind.__struct_fields__:
            yield place, kind.__struct_fields__, key
        elif key in inner and isinstance(value, dict):
            yield from find_unknown_keys(value, inner[key], f"{place}.{key}")


def resolve_paths(config: Config, folder: Path) -> Config:
    """Count relative paths from the file's folder."""
    broker = config.broker
    if broker is not None:
        broker = msgspec.structs.replace(broker, password_file=folder / broker.password_file)
    return msgspec.structs.replace(
        config,
        state_dir=folder / config.state_dir,
        keys_dir=folder / config.keys_dir,
        root=folder / config.root,
        broker=broker,
    )
