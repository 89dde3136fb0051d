# SPDX-License-Identifier: Apache-2.0
"""Knight Capital's morning of 1 August 2012 on real processes: eight routers, a feeder, a venue with its own ledger.

General layout: `market` is the morning's orders, `artifacts` the two routers, `assemble` puts them together, `feeder`
(with its rules in `gateway`) and `venue` are processes with a ledger each (`ledgers`), `judge` joins these after the
run. `fleet` is what eight servers offer, `arms` what is run and claimed, `runner` runs it, `report` and `command` show
it.
It models no prices and no other market participants; every order that reaches the venue is filled.
"""
