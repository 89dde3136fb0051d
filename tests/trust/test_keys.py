# SPDX-License-Identifier: Apache-2.0
"""Private keys: readable by their owner only, written once, and refused when anyone else may know them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat

from firecurtain.trust.dev_init import make_development_keys
from firecurtain.trust.keys import KeyFileError, load_private_key, save_private_key
from firecurtain.trust.verify import verify_root
from firecurtain.wire.keys import is_signature


def test_saved_key_loads_as_the_same_signer(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    saved = save_private_key(path, b"k" * 32)
    loaded = load_private_key(path)
    assert (loaded.public, loaded.keyid) == (saved.public, saved.keyid)
    assert is_signature(saved.public, loaded.sign(b"text"), b"text")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")


def test_mode_is_private_under_any_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        save_private_key(tmp_path / "key.pem", b"k" * 32)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_existing_file_or_link_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    save_private_key(path, b"k" * 32)
    before = path.read_bytes()
    (tmp_path / "link.pem").symlink_to(tmp_path / "elsewhere.pem")
    for taken in (path, tmp_path / "link.pem"):
        with pytest.raises(KeyFileError, match="cannot be written: File exists"):
            save_private_key(taken, b"n" * 32)
    assert path.read_bytes() == before
    assert not (tmp_path / "elsewhere.pem").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_key_that_others_may_know_is_refused(tmp_path: Path, mode: int) -> None:
    save_private_key(tmp_path / "key.pem", b"k" * 32)
    (tmp_path / "key.pem").chmod(mode)
    with pytest.raises(KeyFileError, match=f"has mode {mode:04o} .* chmod 600"):
        load_private_key(tmp_path / "key.pem")


def test_key_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    save_private_key(tmp_path / "key.pem", b"k" * 32)
    os.chown(tmp_path / "key.pem", 65534, 65534)
    with pytest.raises(KeyFileError, match="owner 65534"):
        load_private_key(tmp_path / "key.pem")


def test_file_that_holds_no_such_key_is_refused(tmp_path: Path) -> None:
    other = X25519PrivateKey.generate()
    locked = BestAvailableEncryption(b"secret")
    contents = {
        "text.pem": (b"no key", "holds no unencrypted PEM private key"),
        "other.pem": (
            other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "an Ed25519 key is needed",
        ),
        "locked.pem": (other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked), "holds no unencrypted PEM"),
        "huge.pem": (b"x" * 5000, "no regular file of at most 4096 bytes"),
    }
    for name, (content, text) in contents.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).chmod(0o600)
        with pytest.raises(KeyFileError, match=text):
            load_private_key(tmp_path / name)


def test_link_pipe_directory_and_nothing_are_refused(tmp_path: Path) -> None:
    save_private_key(tmp_path / "key.pem", b"k" * 32)
    (tmp_path / "link.pem").symlink_to("key.pem")
    os.mkfifo(tmp_path / "pipe.pem", 0o600)
    for name in ("link.pem", "pipe.pem", ".", "absent.pem"):
        with pytest.raises(KeyFileError, match=r"cannot be read|no regular file"):
            load_private_key(tmp_path / name)


def test_development_keys_make_a_root_that_holds(tmp_path: Path) -> None:
    keys = make_development_keys(tmp_path / "keys", "knight")
    assert verify_root(keys.envelope_path.read_bytes()) == keys.root
    assert {name: load_private_key(path).public for name, path in keys.paths.items()} == {
        name: signer.public for name, signer in keys.signers.items()
    }
    assert len({signer.public for signer in keys.signers.values()}) == 6
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_development_keys_are_never_replaced(tmp_path: Path) -> None:
    first = make_development_keys(tmp_path / "keys", "knight")
    before = {path: path.read_bytes() for path in (*first.paths.values(), first.envelope_path)}
    with pytest.raises(KeyFileError, match=r"exist already\. Name another directory"):
        make_development_keys(tmp_path / "keys", "knight")
    assert {path: path.read_bytes() for path in before} == before
    first.paths["author"].unlink()
    with pytest.raises(KeyFileError, match="exist already"):
        make_development_keys(tmp_path / "keys", "knight")
    assert not first.paths["author"].exists(), "nothing is made when anything is there"
    with pytest.raises(KeyFileError, match="cannot be made"):
        make_development_keys(first.envelope_path / "below", "knight")


def test_verifying_needs_neither_the_signing_library_nor_any_module_that_touches_files() -> None:
    code = (
        "import sys, firecurtain.trust.verify\n"
        "print(sorted(name for name in sys.modules if name.startswith(('securesystemslib', 'firecurtain.'))))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = run.stdout
    for unwanted in ("securesystemslib", "trust.keys", "trust.sign", "trust.release_toml", "trust.dev_init"):
        assert unwanted not in names
