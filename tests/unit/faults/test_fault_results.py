# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results that are kept: of every fault, and the page and the table are made from the figures."""

from __future__ import annotations

import json
from pathlib import Path

import fault_cases
import fault_report

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "molecule" / "faults" / "results" / "faults.json"


def test_every_fault_has_figures_as_it_is_tried_now() -> None:
    kept = {record.name: record for record in fault_report.read(RESULTS)}
    assert list(kept) == [case.name for case in fault_cases.ALL]
    for case in fault_cases.ALL:
        assert (kept[case.name].title, kept[case.name].must) == (case.title, case.must)
        assert set(case.limits) <= set(kept[case.name].limits), case.name


def test_the_page_and_the_table_are_made_from_them() -> None:
    document, records = json.loads(RESULTS.read_text(encoding="utf-8")), fault_report.read(RESULTS)
    assert RESULTS.with_suffix(".html").read_text(encoding="utf-8") == fault_report.as_html(document, records)
    assert fault_report.as_markdown(records) in (ROOT / "docs" / "faults.md").read_text(encoding="utf-8")
