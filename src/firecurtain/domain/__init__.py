# SPDX-License-Identifier: Apache-2.0
"""The rules, pure: `decide(state, command, now, live)` gives events or refuses, `evolve(state, event)` applies one.

No clock, no randomness, no I/O: the control plane's turn loop passes time, ids and live attestations as values.
"""
