# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of each kind under load; the scenario `faults` has all of them. Their report is build/reports/faults-selected.html."""

from __future__ import annotations

import callers
import fault_cases
import fault_run
import lab
import pytest
from fault_run import Case


@pytest.fixture(scope="module", name="certificate")
def fixture_certificate() -> str:
    return fault_run.prepare()


@pytest.fixture(scope="module", name="report")
def fixture_report() -> fault_run.Report:
    return fault_run.Report("faults-selected")


@pytest.mark.parametrize("case", fault_cases.SELECTED, ids=lambda case: case.name)
def test_fault(case: Case, certificate: str, report: fault_run.Report) -> None:
    fault_run.measure(case, certificate, report)


def test_nothing_of_it_is_left() -> None:
    callers.everywhere(callers.remove_services)
    lab.wait_for(lambda: "fault" not in lab.run("consul-1", f"{lab.ASK} ask /v1/catalog/services"), 60, "nothing of it is in the catalogue")
    fault_cases.confirm_loss(callers.WEB)
