# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters: collecting results, and errors that name the filter."""

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.trinode.platform.plugins.filter.acceptance_report import FilterModule

FILTERS = FilterModule().filters()


def test_results_come_in_the_order_of_the_phases_and_only_when_they_are_some() -> None:
    good = {"steps": [], "phase": "base", "node": "a"}
    hostvars = {
        "a": {"__acceptance_after": {**good, "phase": "after"}, "__acceptance_base": good, "__acceptance_start": {"skipped": True}},
        "b": {"__acceptance_base": {**good, "node": "b"}, "other": good},
    }
    found = FILTERS["acceptance_results"](["a", "b", "gone"], hostvars)
    assert [(result["phase"], result["node"]) for result in found] == [("base", "a"), ("base", "b"), ("after", "a")]


def test_report_has_its_parts() -> None:
    made = FILTERS["acceptance_report"]([], {"nodes": ["a"], "run_id": "r"})
    assert set(made) == {"document", "html", "failures", "summary"}
    assert made["failures"]


@pytest.mark.parametrize(("results", "run"), [("text", {}), ([], "text"), ([1], {})])
def test_wrong_input_names_the_filter(results: object, run: object) -> None:
    with pytest.raises(AnsibleFilterError, match=r"trinode\.platform\.acceptance_report"):
        FILTERS["acceptance_report"](results, run)


def test_wrong_hosts_name_the_filter() -> None:
    with pytest.raises(AnsibleFilterError, match=r"trinode\.platform\.acceptance_results"):
        FILTERS["acceptance_results"](["a"], {"a": 1})
