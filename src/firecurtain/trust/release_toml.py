# SPDX-License-Identifier: Apache-2.0
"""The form in which authors write a release: a TOML file, completed with the facts of the sealed tree.

What the author must know stands in the file (limits, stages, tokens); what a machine measures better comes from
sealing (digest, modes, interpreter). The tokens stand in both, and must be the same.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from firecurtain.artifact.seal import Sealed
from firecurtain.terms import ConfigError
from firecurtain.trust.release import Limit, Release, Stage

_FILE_BYTES_MAX = 60_000
_MEASURED = ("artifact", "interpreter", "modes", "author")
_WRITTEN = tuple(name for name in Release.__struct_fields__ if name not in _MEASURED)
_OPTIONAL: dict[str, object] = {"predecessor": None, "arms": (), "lifts_fences": ()}
_UNKNOWN = re.compile(r"unknown field `(.+?)`")


def read_release_toml(path: Path, sealed: Sealed, author: bytes) -> Release:
    """Read the file and complete it.

    Args:
        sealed: the facts of the artifact it is about.
        author: key id of the author who will sign.
    Raises: ConfigError: unreadable, an unknown key (with the nearest known one), a missing key, a value out of bounds,
        or tokens and entrypoint that are not those of the sealed artifact.
    """
    written = _read_file(path)
    for name in written:
        if name not in _WRITTEN:
            raise ConfigError(f"{path}: unknown key `{name}`. {_advise(name, _WRITTEN)}")
    measured = {
        "artifact": sealed.digest,
        "interpreter": sealed.interpreter,
        "modes": sealed.modes,
        "author": author.hex(),
    }
    try:
        release = msgspec.convert({**_OPTIONAL, **written, **measured}, Release)
    except msgspec.ValidationError as error:
        unknown = _UNKNOWN.search(str(error))
        known = (*Stage.__struct_fields__, *Limit.__struct_fields__)
        advice = _advise(unknown[1], known) if unknown else "Correct it there."
        raise ConfigError(f"{path}: {error}. {advice}") from error
    _check_tokens(path, release, sealed)
    _check_entrypoint(path, release, sealed)
    return release


def _read_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
        if len(data) > _FILE_BYTES_MAX:
            raise ConfigError(f"{path} has over {_FILE_BYTES_MAX} bytes: no envelope could hold it. Shorten it.")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Name the release file.") from error
    except ValueError as error:  # not UTF-8, or not TOML; the text names the line
        raise ConfigError(f"{path} is not TOML: {error}. Correct it there.") from error


def _check_tokens(path: Path, release: Release, sealed: Sealed) -> None:
    unlisted = sorted(set(sealed.tokens) - set(release.tokens))
    absent = sorted(set(release.tokens) - set(sealed.tokens))
    if unlisted or absent:
        raise ConfigError(
            f"{path}: tokens must be exactly those in artifact {sealed.digest}, which holds {unlisted} besides and "
            f"does not hold {absent}. Add and remove these, or look for forgotten code."
        )


def _check_entrypoint(path: Path, release: Release, sealed: Sealed) -> None:
    files = [entry.path for entry in sealed.files]
    first = release.entrypoint[0]
    if first not in files:
        raise ConfigError(f"{path}: entrypoint {first!r} is no file of the artifact. {_advise(first, files)}")


def _advise(name: str, known: Iterable[str]) -> str:
    """The known spelling that comes nearest.

    >>> _advise("min_node", ["min_nodes", "modes"])
    "The nearest known one is 'min_nodes'."
    """
    [nearest] = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.0)
    return f"The nearest known one is {nearest!r}."
