# SPDX-License-Identifier: Apache-2.0
"""A directory tree as one verifiable thing: strict layout, in-toto dirHash1, sealed copy in a content-addressed store.

General layout: `layout` says which names and files an artifact may hold, `tree` reads a directory without ever
following a link, `digest` names it, `census` lists the flag tokens in it, `seal` copies it into a store, `check`
re-computes the digest of a sealed tree cheaply, `identity` finds out which artifact a path belongs to.
Nothing here knows a signature, a release or a network: those are `trust` and `wire`.
"""
