# SPDX-License-Identifier: Apache-2.0
"""How a person's command reaches the broker, and with which key it signs.

On the machine of the control plane everything stands in its state_dir: `run.json` says where the broker listens and
`operator.json` holds the password made for people. Elsewhere the [broker] table of firecurtain.toml says both. Imports
little because `halt` waits for it; it checks no signature and knows no root.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path

from firecurtain.bus.nats import NatsBus, connect
from firecurtain.cli.config import Config
from firecurtain.terms import BusError, ConfigError
from firecurtain.wire.keys import Ed25519Signer

# RFC 8410: what stands before the 32 bytes of an Ed25519 seed in PKCS #8. Read here by hand because the general reader
# belongs to trust, which `halt` does not wait for.
_PKCS8_ED25519 = bytes.fromhex("302e020100300506032b657004220420")

OPERATOR_FILE = "operator.json"
RUN_FILE = "run.json"

_BROKER_ADVICE = (
    "Start `firecurtain up` here once, "
    "or write the [broker] table of firecurtain.toml with url, user and password_file."
)


async def connect_operator(config: Config) -> NatsBus:
    """Connect as a person. Raises: ConfigError, Unavailable, Denied."""
    url, user, password = read_access(config)
    return await connect(url, user=user, password=password, report=report_trouble)


def read_access(config: Config) -> tuple[str, str, str]:
    """Broker address, user and password. Raises: ConfigError: no control plane ever ran here."""
    if config.broker is not None:
        return config.broker.url, config.broker.user, _read_text(config.broker.password_file).strip()
    try:
        run = json.loads(_read_text(config.state_dir / RUN_FILE))
        operator = json.loads(_read_text(config.state_dir / OPERATOR_FILE))
        return run["url"], operator["user"], operator["password"]
    except (ValueError, KeyError) as error:
        raise ConfigError(
            f"{config.state_dir} holds a damaged {RUN_FILE} or {OPERATOR_FILE}: {error!r}. Restart `up`."
        ) from error


def read_signer(config: Config, name: str) -> Ed25519Signer:
    """The private key `<keys_dir>/<name>.pem`. Raises: ConfigError: missing, readable by others, or no Ed25519 key."""
    path = config.keys_dir / f"{name}.pem"
    lines = _read_text(path, f"Name another key of {config.keys_dir} with --key.").strip().splitlines()
    if path.stat().st_mode & 0o077:
        raise ConfigError(
            f"{path} may be read by others (mode {path.stat().st_mode & 0o777:04o}). Do: chmod 600 {path}"
        )
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError as error:
        raise ConfigError(f"{path} is no PEM file: {error}. Name another key with --key.") from error
    if len(der) != len(_PKCS8_ED25519) + 32 or not der.startswith(_PKCS8_ED25519):
        raise ConfigError(f"{path} holds no Ed25519 private key. Name another key with --key.")
    return Ed25519Signer(der[len(_PKCS8_ED25519) :])


def _read_text(path: Path, advice: str = _BROKER_ADVICE) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. {advice}") from error


def report_trouble(error: BusError) -> None:
    """Show a person what the connection could not raise."""
    sys.stderr.write(f"firecurtain: {error.code}: {error}\n")
