# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the faults, and the registrations that somebody might try."""

from __future__ import annotations

import ipaddress
import json

import fault_cases
import fault_report
import faults
import lab

CASES = fault_cases.ALL


def test_every_case_has_a_name_of_its_own_and_asks_an_edge_that_stays() -> None:
    assert len({case.name for case in CASES}) == len({case.title for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.must and set(case.edges) <= set(lab.EDGES)
        assert case.edges and (not set(case.away) & set(case.edges) or case.loaded == 0), case.name


def test_those_of_make_test_are_of_every_kind() -> None:
    assert len(fault_cases.SELECTED) == 15 and set(fault_cases.SELECTED) <= set(CASES)
    for kind in (fault_cases.BASIC, fault_cases.NODES, fault_cases.PROCESSES, fault_cases.MACHINE, fault_cases.CATALOGUE):
        assert set(kind) & set(fault_cases.SELECTED)


def test_every_limit_names_a_figure_that_is_measured() -> None:
    measured = set(fault_report.figures([], 0.0)) | {"tcp_cut", "edges_right_s", "right_s", "front_late_trouble"}
    for case in CASES:
        assert {limit.figure for limit in case.limits} <= measured, case.name


def test_hostile_registrations_lead_nowhere() -> None:
    bodies = [faults.hostile(number) for number in range(faults.HOSTILE)]
    assert len({body["ID"] for body in bodies}) == faults.HOSTILE and all(body["ID"].startswith("fault-evil-") for body in bodies)
    json.dumps(bodies)
    for body in bodies:
        try:
            address = ipaddress.ip_address(body["Address"])
        except ValueError:
            continue
        # Multicast is refused by the edge, as the other addresses that are no host's.
        assert address.is_multicast or not address.is_global, body
    assert len({json.dumps({**body, "ID": "", "Name": ""}) for body in bodies}) > 100, "they are of many kinds"
