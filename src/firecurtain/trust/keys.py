# SPDX-License-Identifier: Apache-2.0
"""Private keys on local disk: PEM files that only their owner may read, written once and never overwritten.

For people and hosts without an HSM. The key stands unencrypted in the file; whoever can read it can sign with it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import ClassVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from firecurtain.terms import TrustError
from firecurtain.wire.keys import Ed25519Signer

_FILE_BYTES_MAX = 4096


class KeyFileError(TrustError):
    """A private key file is missing, unsafe, malformed or already there."""

    code: ClassVar[str] = "trust-key-file"


def save_private_key(path: Path, seed: bytes) -> Ed25519Signer:
    """Write a new key file, mode 0600, durable before this returns; an existing file is never touched.

    Args:
        seed: 32 random bytes, drawn by the caller.
    Returns: a signer for the new key.
    Raises: KeyFileError: the file exists or cannot be written. WireError: the seed has another length.
    """
    signer = Ed25519Signer(seed)
    private = Ed25519PrivateKey.from_private_bytes(seed)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(descriptor)
        _fsync(path.parent)
    except OSError as error:
        raise KeyFileError(
            f"{path} cannot be written: {error.strerror}. Name a new file, keys stay as they are."
        ) from error
    return signer


def _fsync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_private_key(path: Path) -> Ed25519Signer:
    """Read a key file that belongs to this user, or to root, and that nobody else may read.

    Raises: KeyFileError.
    """
    pem = _read_private(path)
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{path} holds no unencrypted PEM private key: {error}. Name another file.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise KeyFileError(f"{path} holds a {type(private).__name__}, an Ed25519 key is needed. Make one with `init`.")
    return Ed25519Signer(private.private_bytes_raw())


def _read_private(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _FILE_BYTES_MAX:
                raise KeyFileError(f"{path} is no regular file of at most {_FILE_BYTES_MAX} bytes. Name the key file.")
            if status.st_mode & 0o077 or status.st_uid not in (0, os.geteuid()):
                raise KeyFileError(
                    f"{path} has mode {stat.S_IMODE(status.st_mode):04o} and owner {status.st_uid}: others may know "
                    f"this key. Do: chmod 600 it, or make a new one if anyone could have read it."
                )
            return file.read(_FILE_BYTES_MAX)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}. Name an existing key file.") from error
