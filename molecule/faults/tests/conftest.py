# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The services under load, and the report."""

from __future__ import annotations

import fault_run
import pytest


@pytest.fixture(scope="session", name="certificate")
def fixture_certificate() -> str:
    return fault_run.prepare()


@pytest.fixture(scope="session", name="report")
def fixture_report() -> fault_run.Report:
    return fault_run.Report("faults")
