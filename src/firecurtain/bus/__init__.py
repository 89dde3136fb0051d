# SPDX-License-Identifier: Apache-2.0
"""The message bus: one small port, its NATS adapter, an in-memory fake and the supervised `nats-server` child.

General layout: `port` (what the other rooms see), `listening` (a bounded mailbox), `users` (who may publish what),
`nats` and `journal` (the NATS adapter and its ledger half), `memory` (the fake), `binary`, `disk` and `server` (the
child). Import the module you need: this file imports nothing, because `halt` has 300 ms from start to cast.
"""
