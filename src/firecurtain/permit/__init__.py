# SPDX-License-Identifier: Apache-2.0
"""The host-local boundary between agent and guards: permit page, counter slots, limits file, as bytes.

The agent writes `PageWriter`, `write_limits` and reads `read_slots`; a guard reads `PageReader`, `read_limits` and
writes `SlotWriter`. Neither calls the other. Nothing here speaks to a network, starts a thread or decides who may act.
"""

from firecurtain.permit.clock import boottime_ns, read_boot_id, read_time_namespace
from firecurtain.permit.limits import (
    ACTION_NAME_SIZE_MAX,
    ActionLimits,
    compute_limits_digest,
    encode_limits,
    parse_action_name,
    parse_limits,
    read_limits,
    write_limits,
)
from firecurtain.permit.page import ARMED_COUNT_MAX, NO_DIGEST, Body, Grant, PageHeader, PageRefused
from firecurtain.permit.place import PERMIT_VARIABLE, compute_page_path, normalise_path
from firecurtain.permit.reader import Closed, PageReader, View
from firecurtain.permit.slots import (
    Counter,
    ProcessKey,
    SlotsReading,
    SlotWriter,
    compute_slots_directory,
    read_process_key,
    read_slots,
    remove_slots,
)
from firecurtain.permit.writer import PageWriter

__all__ = [
    "ACTION_NAME_SIZE_MAX",
    "ARMED_COUNT_MAX",
    "NO_DIGEST",
    "PERMIT_VARIABLE",
    "ActionLimits",
    "Body",
    "Closed",
    "Counter",
    "Grant",
    "PageHeader",
    "PageReader",
    "PageRefused",
    "PageWriter",
    "ProcessKey",
    "SlotWriter",
    "SlotsReading",
    "View",
    "boottime_ns",
    "compute_limits_digest",
    "compute_page_path",
    "compute_slots_directory",
    "encode_limits",
    "normalise_path",
    "parse_action_name",
    "parse_limits",
    "read_boot_id",
    "read_limits",
    "read_process_key",
    "read_slots",
    "read_time_namespace",
    "remove_slots",
    "write_limits",
]
