# SPDX-License-Identifier: Apache-2.0
"""Incidents replayed on real processes: each rehearsal shows what burns without the controls, and what plays on."""
