# SPDX-License-Identifier: Apache-2.0
"""A release as people sign it: which artifact of which service, what it may do, where it goes first.

Kept as an in-toto Statement, so that other tools can read it; its own digest is the sha256 of the signed payload bytes.
A value only: `verify` says who signed it, `release_toml` reads the form that authors write.
Source: in-toto attestation v1, Statement.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from firecurtain.terms import Digest
from firecurtain.trust.envelope import DocumentError, read_document, write_document
from firecurtain.trust.fields import DigestText, IdText, KeyidText, Name, TokenText

EVERY_NODE: Literal["*"] = "*"

ActionName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,29}\Z")]  # what a counter's name can hold
Mode = Annotated[str, Meta(pattern=r"^0755\Z")]
Word = Annotated[str, Meta(pattern=r"^[^\x00]*\Z", max_length=4096)]  # execve takes no zero byte


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one action may do on one node: effects for each cause, and dollars in all."""

    effects_per_cause: Annotated[int, Meta(gt=0, le=10**12)]
    gross_usd: Annotated[int, Meta(gt=0, le=10**12)]


class Stage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One step of the rollout: the nodes it calls, or "*" for every node of the service."""

    name: Name
    nodes: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=256)] | Literal["*"]


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that approvers agree to.

    `entrypoint` is the argv below the artifact, before which the agent puts the interpreter; `modes` names the
    executable files, all others are 0644; `tokens` are all flag tokens in the artifact's bytes, `arms` those to arm;
    `lifts_fences` names the stops that this release takes back; `author` is a key id.
    """

    fleet: Name
    service: Name
    version: Annotated[int, Meta(ge=1, lt=2**53)]
    predecessor: DigestText | None
    artifact: DigestText
    entrypoint: Annotated[tuple[Word, ...], Meta(min_length=1, max_length=64)]
    interpreter: DigestText
    modes: Mapping[str, Mode]
    tokens: Annotated[tuple[TokenText, ...], Meta(max_length=1024)]
    arms: Annotated[tuple[TokenText, ...], Meta(max_length=64)]
    limits: Annotated[Mapping[ActionName, Limit], Meta(min_length=1, max_length=64)]
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=32)]
    on_straggler: Literal["hold", "exclude"]
    min_nodes: Annotated[int, Meta(ge=1, lt=2**31)]
    lifts_fences: Annotated[tuple[IdText, ...], Meta(max_length=64)]
    author: KeyidText

    def __post_init__(self) -> None:
        for name in ("tokens", "arms", "lifts_fences"):
            values = getattr(self, name)
            if list(values) != sorted(set(values)):
                raise DocumentError(f"{name} {values} must be sorted, each once: {tuple(sorted(set(values)))}.")
        undeclared = sorted(set(self.arms) - set(self.tokens))
        if undeclared:
            raise DocumentError(
                f"arms {undeclared}, but the artifact holds {list(self.tokens)}. Arm only what it holds."
            )
        _check_entrypoint(self.entrypoint)
        _check_stages(self.stages)


def _check_entrypoint(entrypoint: tuple[str, ...]) -> None:
    parts = entrypoint[0].split("/") if entrypoint else [""]
    if any(part in ("", ".", "..") for part in parts) or parts[0].startswith("-"):
        raise DocumentError(
            f"entrypoint {entrypoint[:1]} must begin with a file inside the artifact, such as 'lib/main.py'."
        )


def _check_stages(stages: tuple[Stage, ...]) -> None:
    names = [stage.name for stage in stages]
    if len(set(names)) != len(names):
        raise DocumentError(f"stages {names}: a name stands twice. Rename one.")
    if any(stage.nodes == EVERY_NODE for stage in stages[:-1]):
        raise DocumentError(f'stages {names}: nodes = "*" calls every node, so only the last stage can have it.')
    called = [node for stage in stages if stage.nodes != EVERY_NODE for node in stage.nodes]
    twice = sorted({node for node in called if called.count(node) > 1})
    if twice:
        raise DocumentError(f"stages {names} call {twice} more than once. Name each node in one stage.")


class _DigestSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Exactly one algorithm: "any digest of the set matches" would let the weakest one decide."""

    dir_hash: DigestText = msgspec.field(name="dirHash1")


class _Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    digest: _DigestSet


class _Statement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Literal["https://in-toto.io/Statement/v1"] = msgspec.field(name="_type")
    subject: tuple[_Subject]
    predicate_type: Literal["urn:firecurtain:release:1"] = msgspec.field(name="predicateType")
    predicate: Release


def encode_release(release: Release) -> bytes:
    """The payload to sign. Raises: DocumentError: a field breaks its rule."""
    subject = _Subject(release.service, _DigestSet(release.artifact))
    return write_document(
        _Statement("https://in-toto.io/Statement/v1", (subject,), "urn:firecurtain:release:1", release)
    )


def decode_release(payload: bytes) -> Release:
    """Read a payload whose signatures were verified. Raises: DocumentError."""
    statement = read_document(payload, _Statement)
    subject, release = statement.subject[0], statement.predicate
    if (subject.name, subject.digest.dir_hash) != (release.service, release.artifact):
        raise DocumentError(
            f"statement is about {subject.name} {subject.digest.dir_hash}, its predicate about {release.service} "
            f"{release.artifact}. Make the release anew with `firecurtain release propose`."
        )
    return release


def encode_limits(release: Release) -> bytes:
    """The bytes of the limits file: canonical JSON, keys sorted, no spaces, so that one meaning has one digest."""
    document = {action: msgspec.structs.asdict(limit) for action, limit in release.limits.items()}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


def compute_limits_digest(release: Release) -> Digest:
    """What beacon and permit page name: the sha256 of `encode_limits`."""
    return Digest(hashlib.sha256(encode_limits(release)).hexdigest())
