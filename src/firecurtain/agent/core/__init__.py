# SPDX-License-Identifier: Apache-2.0
"""The agent's pure core: what it knows, what it decides, and in which order things must be done. No I/O, no clock.

General layout
    state      everything an agent knows, one frozen value
    machine    something happened -> next state and effects
    verdict    may this node act now, and if not, why
    freshness  how long a beacon permits, counted from its signing
    clocks     do the host's clocks still tell the truth
    stops      the grow-only sets H and L
    effects    what the shell must do, in order
"""
