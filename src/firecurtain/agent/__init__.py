# SPDX-License-Identifier: Apache-2.0
"""The host agent: beacons in, permit page out; it runs and attests one process and reports its counters.

General layout
    core        the pure state machine; it decides everything
    host        carries out what the core wants, in order: page, latches
    exchange    the bus: beacons, stops, lifts, answers in; attests and counters out
    service     keeps the right release running
    process     one service process: start, identity, end
    releases    verified release envelopes on disk
    latch       the grow-only sets on disk
    counters    the guards' counters, summed
    clock       the only module that reads one
    config      firecurtain-agent's TOML file
    shell       puts one agent together and runs it
"""

from firecurtain.agent.config import AgentConfig, load_config
from firecurtain.agent.shell import run

__all__ = ["AgentConfig", "load_config", "run"]
