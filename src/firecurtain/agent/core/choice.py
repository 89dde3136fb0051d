# SPDX-License-Identifier: Apache-2.0
"""Which release this node should run: what the ledger calls it to, as far as it holds it. It starts nothing."""

from __future__ import annotations

from collections.abc import Collection

from firecurtain.agent.core.state import AgentState, ReleaseFacts


def choose_release(state: AgentState, stored: Collection[str]) -> ReleaseFacts | None:
    """The newest verified release whose artifact is in `stored` and to which the adopted content calls this node.

    Returns: None when there is none and something runs already, or nothing can run; while nothing runs, the newest
        verified one that is stored will do: it gets no permit before the ledger names it.
    """
    node = state.identity.node
    called = {entry.release for entry in state.content.allowed if not entry.nodes or node in entry.nodes}
    runnable = [facts for facts in state.releases if facts.artifact in stored]
    fitting = [facts for facts in runnable if facts.release in called]
    if not fitting and state.running is None:
        fitting = runnable
    return max(fitting, key=lambda facts: (facts.version, facts.release), default=None)
