# SPDX-License-Identifier: Apache-2.0
"""The shared nouns of the field: digests, flag tokens, scopes, denial reasons and the error tree.

Every room imports these words and nothing else by default. This module does no I/O, reads no clock and knows no
message: layouts live in `permit` (host) and `wire` (network).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import ClassVar, NewType

Digest = NewType("Digest", str)
"""A sha256 as 64 lower-case hexadecimal characters; of an artifact it is the in-toto dirHash1."""

FlagToken = NewType("FlagToken", str)
"""The identity of a flag, minted once: `fc1-` and 12 Crockford base32 characters (60 random bits)."""

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_DIGEST = re.compile(r"[0-9a-f]{64}")
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_TOKEN = re.compile(rf"fc1-[{_CROCKFORD}]{{12}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


class FirecurtainError(Exception):
    """Root of every error we raise. `code` never changes once released; the text says what to do next."""

    code: ClassVar[str] = "firecurtain"


class InvariantError(FirecurtainError):
    """We broke our own rule: a programmer's error, never the world's."""

    code = "invariant"


class ConfigError(FirecurtainError):
    """A configuration file or argument cannot be used."""

    code = "config"


class TermError(FirecurtainError, ValueError):
    """A digest, token, scope or name is not written as docs/TERMS.md says."""

    code = "term"


class WireError(FirecurtainError):
    """A network message is malformed, too large, of another fleet or wrongly signed."""

    code = "wire"


class TrustError(FirecurtainError):
    """An envelope, key or threshold does not hold."""

    code = "trust"


class ArtifactError(FirecurtainError):
    """A directory is not an artifact, or no longer the artifact it was."""

    code = "artifact"


class PermitError(FirecurtainError):
    """The permit page cannot be used or does not permit."""

    code = "permit"


class LimitError(FirecurtainError):
    """A limit is missing, malformed or reached."""

    code = "limit"


class BusError(FirecurtainError):
    """The message bus or its supervised server does not do its work."""

    code = "bus"


class LedgerError(FirecurtainError):
    """The ledger cannot take or give a record."""

    code = "ledger"


class LedgerDamaged(LedgerError):  # noqa: N818 - the design's word; "damaged" is the news, not "error"
    """The ledger lost, changed or reordered a record. Every grant is refused until a person has looked."""

    code = "ledger-damaged"


class Refusal(FirecurtainError):  # noqa: N818 - a refusal is a result with a reason, not a failure
    """A command is refused. The text carries both values and what to do."""

    code = "refused"


class Reason(enum.IntEnum):
    """Why a guard denies. The names are the stable strings users see; the numbers stand in the permit page."""

    OK = 0
    NO_AGENT = 1  # no permit page where the agent should keep one
    PAGE_UNSAFE = 2  # wrong owner, mode, file type or path component
    PAGE_FOREIGN = 3  # another fleet, service, boot or time namespace
    PAGE_MALFORMED = 4  # wrong magic, version, size or a torn read three times over
    EXPIRED = 5  # no fresh permit: silence
    NOT_YET = 6  # deadline further away than max_age: a clock stood still
    RELEASE_MISMATCH = 7  # the page permits another artifact than the one this process was started from
    STOP_IN_FORCE = 8  # a stop covers this scope
    NO_LIMIT = 9  # the signed release declares no limit for this action
    LIMITS_MISMATCH = 10  # the limits file is not the one the page names
    UNKNOWN_CAUSE = 11  # the limit counts per cause and no cause was named
    EFFECTS_PER_CAUSE = 12
    GROSS_USD = 13
    FORKED = 14  # the child of a fork has no counter slot of its own
    NO_SLOT = 15  # the counter slot file is missing or full
    NOT_ENROLLED = 16  # the agent has no answer: unknown, excluded or straggling node
    NOT_ATTESTED = 17  # the files or the process are not what the release names
    CLOCK_DOUBT = 18  # a clock check failed; the agent asks again
    NO_RELEASE = 19  # the agent holds no verified release for this artifact

    @property
    def text(self) -> str:
        """The stable spelling shown to people and programs.

        >>> Reason.EFFECTS_PER_CAUSE.text
        'effects-per-cause'
        """
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True)
class Scope:
    """What a stop covers: `fleet`, or a kind and a name such as `service:payouts`, `node:host-8`,
    `release:<digest>`, `token:<flag token>`.

    >>> str(parse_scope("node:host-8"))
    'node:host-8'
    """

    kind: str
    name: str = ""

    def __str__(self) -> str:
        return self.kind if self.kind == "fleet" else f"{self.kind}:{self.name}"


FLEET = Scope("fleet")
SCOPE_KINDS = ("fleet", "service", "node", "release", "token")


def parse_scope(text: str) -> Scope:
    """Read a scope, refusing every kind and name we do not know.

    Raises: TermError.

    >>> parse_scope("fleet")
    Scope(kind='fleet', name='')
    """
    kind, _, name = text.partition(":")
    if kind == "fleet" and text == "fleet":
        return FLEET
    if kind in ("service", "node"):
        return Scope(kind, parse_name(name))
    if kind == "release":
        return Scope(kind, parse_digest(name))
    if kind == "token":
        return Scope(kind, parse_token(name))
    raise TermError(f"scope {text!r} is not one of {', '.join(SCOPE_KINDS)}. Write e.g. `service:payouts` or `fleet`.")


def parse_digest(text: str) -> Digest:
    """Read a digest. Raises: TermError."""
    if not _DIGEST.fullmatch(text):
        raise TermError(
            f"digest {text!r} is not 64 lower-case hexadecimal characters. Copy it from `firecurtain seal`."
        )
    return Digest(text)


def short(digest: str) -> str:
    """The first 12 characters, for people.

    >>> short("9f2c" * 16)
    '9f2c9f2c9f2c'
    """
    return digest[:12]


def parse_name(text: str) -> str:
    """Read the name of a fleet, service, node, action or metric. Raises: TermError.

    >>> parse_name("send-order")
    'send-order'
    """
    if not _NAME.fullmatch(text):
        raise TermError(f"name {text!r} must be 1 to 63 letters, digits, '_' or '-', not starting with a sign.")
    return text


def parse_token(text: str) -> FlagToken:
    """Read a flag token. Raises: TermError."""
    if not _TOKEN.fullmatch(text):
        raise TermError(
            f"flag token {text!r} is not `fc1-` and 12 Crockford base32 characters. Mint one, never edit one."
        )
    return FlagToken(text)


def mint_token(random_bits: int) -> FlagToken:
    """Spell 60 random bits as a flag token. The caller draws the bits.

    >>> mint_token(0)
    'fc1-000000000000'
    """
    if not 0 <= random_bits < 1 << 60:
        raise InvariantError(f"mint_token needs 60 bits, got {random_bits:#x}")
    return FlagToken("fc1-" + "".join(_CROCKFORD[random_bits >> shift & 31] for shift in range(55, -5, -5)))


def compute_token_word(token: FlagToken) -> int:
    """The token's 60 bits as stored in the permit page; never 0 for a minted token but in theory.

    >>> compute_token_word(FlagToken("fc1-00000000000Z"))
    31
    """
    word = 0
    for character in token[4:]:
        word = word << 5 | _CROCKFORD.index(character)
    return word
