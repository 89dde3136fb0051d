# SPDX-License-Identifier: Apache-2.0
"""The guard: attach once, then ask before every effect. Standard library only; no thread, no socket, no log.

General layout: `curtain` attaches and joins what an answer needs, `action` is the hot path, `reserve` counts against
the limits, `tally` counts for the agent, `cause` names on whose behalf, `identity` says who this process is, `verdict`
holds what is answered.
"""

from firecurtain.guard.action import Action
from firecurtain.guard.cause import Cause
from firecurtain.guard.curtain import Guard, attach
from firecurtain.guard.verdict import Acquired, Denied, Verdict

__all__ = ["Acquired", "Action", "Cause", "Denied", "Guard", "Verdict", "attach"]
