# SPDX-License-Identifier: Apache-2.0
"""All keys of a fleet on one disk, with a root that trusts them: for development, rehearsals and tests ONLY.

Whoever can read the directory is every person of the fleet at once, so "two of three" means nothing here. In earnest
each key is made by the person or machine that keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from firecurtain.trust.envelope import ROOT_TYPE, write_document
from firecurtain.trust.keys import KeyFileError, save_private_key
from firecurtain.trust.root import Root
from firecurtain.trust.sign import sign_envelope
from firecurtain.wire.keys import Ed25519Signer

APPROVERS = ("approver-1", "approver-2", "approver-3")
THRESHOLD = 2
_NAMES = ("author", *APPROVERS, "operator", "issuer")


@dataclass(frozen=True, slots=True)
class DevelopmentKeys:
    """The root document, its signed envelope, and each key as file and as signer.

    Names: author, approver-1, approver-2, approver-3, operator (which is the stop key too), issuer.
    """

    root: Root
    envelope: bytes
    envelope_path: Path
    paths: Mapping[str, Path]
    signers: Mapping[str, Ed25519Signer]


def make_development_keys(
    directory: Path, fleet: str, draw_bytes: Callable[[int], bytes] = os.urandom
) -> DevelopmentKeys:
    """Make the keys `<name>.pem` and `root.json` in `directory` (0700); existing ones are refused, not replaced.

    Args:
        draw_bytes: gives n random bytes; a test passes fixed ones.
    Raises: KeyFileError: a file is already there or cannot be written. DocumentError: the fleet's name is none.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFileError(f"{directory} cannot be made: {error.strerror}. Name another directory.") from error
    paths = {name: directory / f"{name}.pem" for name in _NAMES}
    envelope_path = directory / "root.json"
    there = sorted(str(path) for path in (*paths.values(), envelope_path) if path.exists())
    if there:
        raise KeyFileError(f"{', '.join(there)} exist already. Name another directory; keys are never replaced.")
    signers = {name: save_private_key(path, draw_bytes(32)) for name, path in paths.items()}
    root = _make_root(fleet, {name: signer.public.hex() for name, signer in signers.items()})
    envelope = sign_envelope(write_document(root), ROOT_TYPE, [signers[name] for name in APPROVERS[:THRESHOLD]])
    try:
        with envelope_path.open("xb") as file:
            file.write(envelope)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeyFileError(f"{envelope_path} cannot be written: {error.strerror}. Name another directory.") from error
    return DevelopmentKeys(root, envelope, envelope_path, paths, signers)


def _make_root(fleet: str, public: Mapping[str, str]) -> Root:
    return Root(
        fleet=fleet,
        version=1,
        issuers=(public["issuer"],),
        stop_keys=(public["operator"],),
        operators=(public["operator"],),
        approvers=tuple(public[name] for name in APPROVERS),
        approve_threshold=THRESHOLD,
        lift_threshold=THRESHOLD,
        authors=(public["author"],),
    )
