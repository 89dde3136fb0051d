# SPDX-License-Identifier: Apache-2.0
"""The limits file beside the permit page: `limits-<sha256>.json`, written once, read once, never edited.

Its bytes are canonical JSON (sorted keys, no spaces), so the digest the signed release names stands for exactly one
meaning: `{"send-order":{"effects_per_cause":10,"gross_usd":2000000}}`. Both keys are mandatory for each action: a limit
left out by mistake must not read as "unlimited". This module knows layouts and digests; it does not count anything.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from firecurtain.permit.page import PageRefused
from firecurtain.permit.place import open_directory, open_file
from firecurtain.terms import Digest, LimitError, PermitError, Reason, TermError, parse_digest, parse_name

ACTION_NAME_SIZE_MAX = 30
"""Derived: a counter's name holds 55 bytes, and `:denied:effects-per-cause` is the longest thing we append (25)."""
LIMITS_FILE_SIZE_MAX = 65_536
"""Chosen: some 800 actions. Half would still do; the bound is there so that a guard never maps a flood."""
_VALUE_MAX = 10**12
_KEYS = ("effects_per_cause", "gross_usd")


@dataclass(frozen=True, slots=True)
class ActionLimits:
    """What one action of one process may do: effects for each cause, and dollars in all, reserved before sending."""

    effects_per_cause: int
    gross_usd: int


def encode_limits(limits: Mapping[str, ActionLimits]) -> bytes:
    """The canonical bytes. Names and values are judged by `parse_limits`, which every writer and reader goes through.

    >>> encode_limits({"send-order": ActionLimits(effects_per_cause=10, gross_usd=2_000_000)})
    b'{"send-order":{"effects_per_cause":10,"gross_usd":2000000}}'
    """
    document = {
        action: {"effects_per_cause": limit.effects_per_cause, "gross_usd": limit.gross_usd}
        for action, limit in limits.items()
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def parse_limits(data: bytes) -> dict[str, ActionLimits]:
    """Read a limits file, refusing what it does not know by name.

    Raises: LimitError: unknown, doubled or missing key, a value out of bounds, bytes that are not canonical.
    """
    if len(data) > LIMITS_FILE_SIZE_MAX:
        raise LimitError(
            f"a limits file has at most {LIMITS_FILE_SIZE_MAX} bytes, this one {len(data)}. Do: shorten it."
        )
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LimitError(f"the limits file is not JSON: {error}. Do: let the agent write it.") from error
    if not isinstance(document, dict):
        raise LimitError(f"a limits file is a JSON object, not {type(document).__name__}. Do: let the agent write it.")
    limits = {parse_action_name(action): _parse_action(action, keys) for action, keys in document.items()}
    if encode_limits(limits) != data:
        raise LimitError("the limits file is not canonical (sorted keys, none twice, no spaces). Do: encode_limits().")
    return limits


def parse_action_name(text: str) -> str:
    """A name of at most 30 characters. Raises: LimitError."""
    try:
        name = parse_name(text)
    except TermError as error:
        raise LimitError(f"action: {error}") from error
    if len(name) > ACTION_NAME_SIZE_MAX:
        raise LimitError(
            f"action name {text!r} has {len(name)} characters, at most {ACTION_NAME_SIZE_MAX} fit a counter. "
            "Do: shorten it."
        )
    return name


def compute_limits_digest(data: bytes) -> Digest:
    """sha256 of the file's bytes; this is what a release and the permit page name."""
    return Digest(hashlib.sha256(data).hexdigest())


def write_limits(directory: str, data: bytes) -> Digest:
    """Put a limits file beside the permit page, in one rename, and return its digest.

    Raises: LimitError: the bytes are not a limits file. PermitError: they cannot be written.
    """
    parse_limits(data)
    digest = compute_limits_digest(data)
    folder = open_directory(directory)
    temporary = f".limits-{os.getpid()}"
    try:
        file = open_file(folder, temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            os.fchmod(stream.fileno(), 0o644)
        os.rename(temporary, _name(digest), src_dir_fd=folder, dst_dir_fd=folder)
    except OSError as error:
        raise PermitError(
            f"the limits file cannot be written to {directory}: {error}. Do: free space there."
        ) from error
    finally:
        os.close(folder)
    return digest


def read_limits(directory: str, digest: Digest) -> dict[str, ActionLimits]:
    """Read the limits file of this digest.

    Raises: PageRefused: LIMITS_MISMATCH: missing, unsafe, or other bytes than the page names. LimitError: not limits.
    """
    parse_digest(digest)
    try:
        data = _read_file(directory, _name(digest))
    except (PageRefused, OSError) as error:
        raise _mismatch(f"the limits file cannot be read: {error}") from error
    found = compute_limits_digest(data)
    if found != digest:
        raise _mismatch(f"the limits file has digest {found}, the permit page names {digest}.")
    return parse_limits(data)


def _read_file(directory: str, name: str) -> bytes:
    folder = open_directory(directory)
    try:
        file = open_file(folder, name, os.O_RDONLY)
    finally:
        os.close(folder)
    with os.fdopen(file, "rb") as stream:
        return stream.read(LIMITS_FILE_SIZE_MAX + 1)


def _parse_action(action: str, keys: object) -> ActionLimits:
    if not isinstance(keys, dict):
        raise LimitError(f"$.{action} must be an object with {' and '.join(_KEYS)}, not {type(keys).__name__}.")
    for key in keys:
        if key not in _KEYS:
            raise LimitError(
                f"$.{action}.{key} is not a limit we know; known are {' and '.join(_KEYS)}. Do: correct it."
            )
    for key in _KEYS:
        value = keys.get(key)
        if type(value) is not int or not 0 <= value <= _VALUE_MAX:
            raise LimitError(
                f"$.{action}.{key} must be a whole number from 0 to {_VALUE_MAX}, got {value!r}. Do: set it."
            )
    return ActionLimits(**keys)


def _name(digest: Digest) -> str:
    return f"limits-{digest}.json"


def _mismatch(what: str) -> PageRefused:
    return PageRefused(Reason.LIMITS_MISMATCH, f"{what} Do: restart the agent, which writes the file anew.")
