# SPDX-License-Identifier: Apache-2.0
"""Who may decide what: root, releases and lifts as documents in DSSE envelopes that k of n people signed.

General layout: `envelope` is the bytes of an envelope, `root`, `release` and `lift` are the documents, `verify` says
whether an envelope holds, `sign` makes one, `release_toml` reads what an author writes, `keys` keeps private keys on
local disk, `dev_init` makes a whole set of them for development. All but the last three are pure.
"""
