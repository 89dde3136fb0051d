# SPDX-License-Identifier: Apache-2.0
"""The control plane's shell: it reads clocks, keeps the latch, signs beacons and drives the pure domain.

General layout: `run` puts a control plane together; `latch`, `issuer` and `stops` are the stopping half, which needs no
ledger; `turn` and `commands` are the starting half, which does; `answers` decides which node hears from us;
`challenge`, `credentials` and `clock` are their tools. Nothing here knows an agent: the way round is through `wire`.
"""
