# SPDX-License-Identifier: Apache-2.0
"""The permit page: one memory-mapped file per node and service, written by the agent, read by guards.

All integers are little-endian. What is not named here is zero, and a page with anything else there is refused.

    offset  size  field
         0     8  magic `FCPERMIT`
         8     4  version, 1
        12     4  page size, 4096
        16    16  boot id
        32     8  time namespace, inode
        40     8  max_age_ns: a deadline further away than this was not written by this clock
        64    64  fleet    \
       128    64  service   } UTF-8, at most 63 bytes, zero padded
       192    64  node     /
       256     8  expiry word: the deadline on CLOCK_BOOTTIME, ns; 0 = dead; alone on its cache line
       320     8  generation; its lowest bit says which body is valid; alone on its cache line
      1024  1024  body 0
      2048  1024  body 1

    body    size  field
         0     8  ledger epoch  \
         8     8  ledger seq    / together the fencing token
        16    32  artifact, digest
        48    32  release, digest
        80    32  limits, digest of the limits file
       112     2  reason (`terms.Reason`): 0 = permitted while the expiry word lives
       114     2  size of the detail
       116     2  count of armed tokens, at most 64
       120   256  detail, UTF-8, at most 255 bytes: what happened, both values, what to do
       376   512  armed tokens, one 60-bit word each, ascending

This module is pure: bytes to values and back. The order of the stores is `writer`'s business, that of the loads
`reader`'s.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import ClassVar

from firecurtain.terms import (
    Digest,
    FlagToken,
    InvariantError,
    PermitError,
    Reason,
    TermError,
    compute_token_word,
    mint_token,
    parse_digest,
    parse_name,
)

PAGE_SIZE = 4096
PAGE_VERSION = 1
EXPIRY_WORD = 256 // 8
GENERATION_WORD = 320 // 8
HEADER_SIZE = 256
BODY_SIZE = 1024
BODY_OFFSETS = (1024, 2048)
ARMED_COUNT_MAX = 64
DETAIL_SIZE_MAX = 255
NO_DIGEST = Digest("0" * 64)
"""Stands in a body that names no artifact, release or limits yet."""

_MAGIC = b"FCPERMIT"
_HEADER = struct.Struct("<8sII16sQQ16x64s64s64s")
_BODY = struct.Struct("<QQ32s32s32sHHH2x256s512s136x")
_WORD_MAX = 2**64 - 1
_TOKEN_WORD_MAX = 2**60 - 1


class PageRefused(PermitError):  # noqa: N818 - a refusal is a result with a reason, not a failure
    """The page, or the path to it, cannot be used. `reason` says why in a word."""

    code: ClassVar[str] = "permit-page"

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PageHeader:
    """Whose page this is, on which clock, and how long a permit can last."""

    fleet: str
    service: str
    node: str
    max_age_ns: int
    boot_id: bytes
    time_namespace: int


@dataclass(frozen=True, slots=True)
class Grant:
    """What the ledger lets this node do: one artifact of one release, under limits, with these tokens armed."""

    ledger_epoch: int
    ledger_seq: int
    artifact: Digest
    release: Digest
    limits: Digest
    armed: frozenset[FlagToken] = field(default_factory=frozenset)

    def is_within(self, other: Grant) -> bool:
        """True when `other` allows at least all that this grant allows: nothing is taken away by going there."""
        mine = (self.artifact, self.release, self.limits)
        return mine == (other.artifact, other.release, other.limits) and self.armed <= other.armed


NO_GRANT = Grant(0, 0, NO_DIGEST, NO_DIGEST, NO_DIGEST)
"""The content of a page before the agent knows any."""


@dataclass(frozen=True, slots=True)
class Body:
    """A grant and whether it is open. `reason` OK means open, everything else says why it is closed."""

    grant: Grant
    reason: Reason
    detail: str = ""


def encode_header(header: PageHeader) -> bytes:
    """The first 256 bytes of a page.

    Raises: InvariantError: a value does not fit. TermError: a name is not a name.
    """
    if len(header.boot_id) != 16:
        raise InvariantError(f"a boot id has 16 bytes, got {len(header.boot_id)}")
    if not 0 < header.max_age_ns <= _WORD_MAX:
        raise InvariantError(f"max_age_ns must be 1 to 2**64-1, got {header.max_age_ns}")
    if not 0 <= header.time_namespace <= _WORD_MAX:
        raise InvariantError(f"a time namespace is an inode, got {header.time_namespace}")
    names = (parse_name(name).encode() for name in (header.fleet, header.service, header.node))
    fixed = (_MAGIC, PAGE_VERSION, PAGE_SIZE, header.boot_id, header.time_namespace, header.max_age_ns)
    return _HEADER.pack(*fixed, *names)


def decode_header(data: bytes) -> PageHeader:
    """Read the first 256 bytes of a page. Raises: PageRefused: PAGE_MALFORMED."""
    magic, version, size, boot_id, time_namespace, max_age_ns, *names = _HEADER.unpack(data[:HEADER_SIZE])
    if (magic, version, size) != (_MAGIC, PAGE_VERSION, PAGE_SIZE):
        raise _malformed(
            f"magic {magic!r}, version {version}, size {size}; this guard reads {_MAGIC!r}, version {PAGE_VERSION}, "
            f"size {PAGE_SIZE}"
        )
    if any(data[48:64]) or any(data[HEADER_SIZE + 8 : 320]) or any(data[328 : BODY_OFFSETS[0]]):
        raise _malformed("bytes outside the layout are not zero")
    try:
        fleet, service, node = (parse_name(name.rstrip(b"\0").decode("ascii")) for name in names)
    except (TermError, UnicodeDecodeError) as error:
        raise _malformed(f"a name in the header cannot be read: {error}") from error
    if max_age_ns == 0:
        raise _malformed("max_age_ns is 0")
    return PageHeader(fleet, service, node, max_age_ns, boot_id, time_namespace)


def encode_body(body: Body) -> bytes:
    """The 1024 bytes of a body. A detail that is too long is cut: no text may keep a page from being closed.

    Raises: InvariantError: more tokens than the page holds, or a number that does not fit.
    """
    grant = body.grant
    if len(grant.armed) > ARMED_COUNT_MAX:
        raise InvariantError(f"a permit page holds {ARMED_COUNT_MAX} armed tokens, got {len(grant.armed)}")
    if not (0 <= grant.ledger_epoch <= _WORD_MAX and 0 <= grant.ledger_seq <= _WORD_MAX):
        raise InvariantError(f"ledger epoch {grant.ledger_epoch} or seq {grant.ledger_seq} does not fit in 64 bits")
    digests = (bytes.fromhex(parse_digest(digest)) for digest in (grant.artifact, grant.release, grant.limits))
    detail = _cut(body.detail)
    words = struct.pack(f"<{len(grant.armed)}Q", *sorted(map(compute_token_word, grant.armed)))
    sizes = (body.reason, len(detail), len(grant.armed))
    return _BODY.pack(grant.ledger_epoch, grant.ledger_seq, *digests, *sizes, detail, words)


def decode_body(data: bytes) -> Body:
    """Read the 1024 bytes of a body. Raises: PageRefused: PAGE_MALFORMED."""
    epoch, seq, artifact, release, limits, reason, detail_size, armed_count, detail, words = _BODY.unpack(data)
    if detail_size > DETAIL_SIZE_MAX or armed_count > ARMED_COUNT_MAX or reason not in Reason.__members__.values():
        raise _malformed(f"reason {reason}, detail of {detail_size} bytes, {armed_count} tokens")
    if any(data[118:120]) or any(detail[detail_size:]) or any(words[armed_count * 8 :]) or any(data[888:]):
        raise _malformed("bytes outside the layout are not zero")
    token_words = struct.unpack(f"<{armed_count}Q", words[: armed_count * 8])
    if list(token_words) != sorted({word & _TOKEN_WORD_MAX for word in token_words}):
        raise _malformed("the token words are not ascending numbers of 60 bits")
    try:
        text = detail[:detail_size].decode("utf-8")
    except UnicodeDecodeError as error:
        raise _malformed(f"the detail is not UTF-8: {error}") from error
    armed = frozenset(map(mint_token, token_words))
    grant = Grant(epoch, seq, Digest(artifact.hex()), Digest(release.hex()), Digest(limits.hex()), armed)
    return Body(grant, Reason(reason), text)


def _cut(text: str) -> bytes:
    """At most 255 bytes of UTF-8, never half a character."""
    data = text.encode("utf-8", "replace")
    return data[:DETAIL_SIZE_MAX].decode("utf-8", "ignore").encode("utf-8")


def _malformed(what: str) -> PageRefused:
    return PageRefused(
        Reason.PAGE_MALFORMED, f"the permit page cannot be read: {what}. Do: run agent and guard of matching versions."
    )
