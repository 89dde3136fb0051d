# SPDX-License-Identifier: Apache-2.0
"""The host agent: beacons in, permit page out; it runs and attests one process and reports its counters.

General layout
    core   the pure state machine; it decides everything
"""
