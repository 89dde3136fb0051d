# SPDX-License-Identifier: Apache-2.0
"""Why a command is refused: one class with a stable `code` for each reason a program may want to tell apart.

The texts are written where the rule stands, because there both values are at hand. How a refusal gets into the ledger
is `refused`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from firecurtain.terms import Refusal, TrustError
from firecurtain.trust.verify import ThresholdError


@contextmanager
def refusing_documents() -> Iterator[None]:
    """Turn what `trust.verify` raises into a refusal of the command that carries the document.

    Raises: ThresholdMissing, DocumentRefused.
    """
    try:
        yield
    except ThresholdError as error:
        raise ThresholdMissing(str(error)) from error
    except TrustError as error:
        raise DocumentRefused(str(error)) from error


class AlreadyFounded(Refusal):
    """A ledger has one founding event."""

    code = "already-founded"


class NotFounded(Refusal):
    """Nothing is decided before the fleet is founded."""

    code = "not-founded"


class NotOperator(Refusal):
    """The key is not one of the operators in the root."""

    code = "not-operator"


class DocumentRefused(Refusal):
    """A signed document cannot be used: its form, its fleet or its own rules."""

    code = "document"


class ThresholdMissing(Refusal):
    """Not enough distinct people signed, or one of them may not."""

    code = "threshold"


class Duplicate(Refusal):
    """The ledger already says so."""

    code = "duplicate"


class NameTaken(Refusal):
    """A node's name is bound to one key and one service, and a key to one name."""

    code = "name-taken"


class UnknownNode(Refusal):
    """No such node is enrolled."""

    code = "unknown-node"


class NodeExcludedAlready(Refusal):
    """The node is not on the roster any more."""

    code = "node-excluded"


class SessionTooEarly(Refusal):
    """The node's earlier session may still hold a grant."""

    code = "session-too-early"


class UnknownRelease(Refusal):
    """No such release was proposed."""

    code = "unknown-release"


class UnknownStage(Refusal):
    """The release has no such stage."""

    code = "unknown-stage"


class VersionNotNewer(Refusal):
    """Versions of a service's releases only grow."""

    code = "version-not-newer"


class ArmedFlagNotDeclared(Refusal):
    """A release would give an armed flag another meaning."""

    code = "armed-flag-not-declared"


class DisarmNotWaited(Refusal):
    """A node may still act with a token that was disarmed a moment ago."""

    code = "disarm-not-waited"


class ReleaseIncomplete(Refusal):
    """Fewer than k of n people have approved."""

    code = "release-incomplete"


class Superseded(Refusal):
    """A newer release of the service has called its nodes."""

    code = "superseded"


class StageOutOfOrder(Refusal):
    """Stages open in the order in which they were signed."""

    code = "stage-out-of-order"


class GateClosed(Refusal):
    """Not every permit-capable node attests the release's artifact."""

    code = "gate-closed"


class MinNodes(Refusal):
    """Fewer nodes would remain than the release demands."""

    code = "min-nodes"


class NothingToArm(Refusal):
    """The release names no token to arm, or all of them are armed."""

    code = "nothing-to-arm"


class FenceMissing(Refusal):
    """A release that does not declare the tokens may still run."""

    code = "fence-missing"


class FenceNotWaited(Refusal):
    """A fence has not been durable for long enough."""

    code = "fence-not-waited"


class StopInForce(Refusal):
    """A stop covers what the command would grant."""

    code = "stop-in-force"


class UnknownStop(Refusal):
    """No such stop is in the ledger."""

    code = "unknown-stop"


class NotAFence(Refusal):
    """A release takes back fences and disarms only; every other stop needs a lift of its own."""

    code = "not-a-fence"


class LedgerBound(Refusal):
    """A bound of the ledger's content is reached."""

    code = "ledger-bound"


class EntryBound(Refusal):
    """A beacon cannot name that many nodes or releases."""

    code = "entry-bound"
