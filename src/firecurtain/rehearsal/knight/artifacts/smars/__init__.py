# SPDX-License-Identifier: Apache-2.0
"""SMARS, an order router for the rehearsal: parent orders in, child orders out. Standard library only.

General layout: `start` names the routing code, `router` is its shell, `order_exit` the one place where orders leave,
`messages`, `link` and `clock` are shared with the venue and the feeder.
"""
