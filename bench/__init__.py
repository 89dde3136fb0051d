# SPDX-License-Identifier: Apache-2.0
"""What a stop takes and what a guard costs, measured on real processes. Run it with `make bench` on a quiet machine.

General layout: `kill`, `cut_off`, `halt` and `guard` each measure one thing; `fleet` is the real fleet behind the first
three, with `service` (the code under the guard), `venue` (the witness) and `people` (who sign stops and lifts); `clock`
reads the clocks, `report` says what was found and against which target.
"""
