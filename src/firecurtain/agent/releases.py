# SPDX-License-Identifier: Apache-2.0
"""Release envelopes on this node's disk, by digest, each verified here before it counts: k of n, author not approver.

Kept so that an agent can start its service while the control plane is down. What does not verify is named and ignored,
never deleted: a person should see it. Which release to run is the core's choice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from firecurtain.agent.core.state import RELEASES_MAX, ReleaseFacts
from firecurtain.terms import Digest, FirecurtainError, TrustError
from firecurtain.trust.release import Release, compute_limits_digest
from firecurtain.trust.root import Root
from firecurtain.trust.verify import compute_release_digest, verify_release

_SUFFIX = ".dsse"


class ReleaseRefused(TrustError):  # noqa: N818 - a refusal is a result with a reason
    """An envelope that verifies, but is not the one asked for or not for this service."""

    code: ClassVar[str] = "agent-release"


class ReleaseShelf:
    """The verified releases of one service on this node; `documents` maps the release digest to what was signed."""

    def __init__(self, directory: Path, root: Root, service: str) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory, self._root, self._service = directory, root, service
        self.documents: dict[str, Release] = {}

    def load(self) -> list[str]:
        """Verify what is on disk, newest file first up to the bound; returns a sentence for each file refused."""
        refused = []
        files = sorted(self._directory.glob(f"*{_SUFFIX}"), key=lambda path: -path.stat().st_mtime_ns)
        for path in files[:RELEASES_MAX]:
            try:
                self._verify(path.stem, path.read_bytes())
            except (FirecurtainError, OSError) as error:
                refused.append(f"{path}: {error}")
        return refused

    def add(self, digest: str, envelope: bytes) -> None:
        """Verify the envelope of release `digest` and keep it, durable when this returns.

        Raises: TrustError: too few signatures, another release or service. OSError: it cannot be written.
        """
        self._verify(digest, envelope)
        path = self._directory / f"{digest}{_SUFFIX}"
        temporary = path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(envelope)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        self._trim()

    def facts_of(self, digest: str) -> ReleaseFacts:
        """What the core needs to know of a verified release."""
        release = self.documents[digest]
        return ReleaseFacts(
            release=digest,
            version=release.version,
            service=release.service,
            artifact=release.artifact,
            limits=compute_limits_digest(release),
            tokens=release.tokens,
        )

    def _verify(self, digest: str, envelope: bytes) -> None:
        release, found = verify_release(envelope, self._root), compute_release_digest(envelope)
        if (found, release.service) != (Digest(digest), self._service):
            raise ReleaseRefused(
                f"asked for release {digest} of {self._service}, got {found} of {release.service}. It is not kept."
            )
        self.documents[digest] = release

    def _trim(self) -> None:
        """Keep the newest versions only."""
        by_age = sorted(self.documents, key=lambda digest: -self.documents[digest].version)
        for digest in by_age[RELEASES_MAX:]:
            del self.documents[digest]
            (self._directory / f"{digest}{_SUFFIX}").unlink(missing_ok=True)
