# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each fault of the table under load. The report of all of them is build/reports/faults.html."""

from __future__ import annotations

import fault_cases
import fault_run
import pytest
from fault_run import Case


@pytest.mark.parametrize("case", fault_cases.ALL, ids=lambda case: case.name)
def test_fault(case: Case, certificate: str, report: fault_run.Report) -> None:
    fault_run.measure(case, certificate, report)
