# SPDX-License-Identifier: Apache-2.0
"""The event log over the bus: every record names the one before it, and every replica keeps a copy it has checked.

General layout: `chain` (pure: how a record names its predecessor), `replica` (our own chained copy in SQLite), `ledger`
(append, read, and what to do when stream and copy disagree), `verify` (the whole check that `ledger verify` prints).
Events are bytes here: what they mean is the domain's.
"""
