# SPDX-License-Identifier: Apache-2.0
"""The network boundary between agent, control plane and people: frozen, signed, size-capped messages.

`messages` are the values, `commands` what people ask for, `frame` the bytes, `keys` the Ed25519 pair behind them,
`subjects` where each message travels. Nothing here does I/O, reads a clock or decides anything.
"""
