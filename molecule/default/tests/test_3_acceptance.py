# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The twelve checks of the acceptance, by the playbook that a site uses, and one test for each of them."""

from __future__ import annotations

import json
import typing as t

import lab
import pytest

CHECKS = range(1, 13)
REPORT = lab.ROOT / "build" / "reports" / "acceptance"


@pytest.fixture(scope="module")
def acceptance() -> dict[str, t.Any]:
    """The report of one run of the acceptance playbook."""
    for name in ("acceptance.json", "acceptance.html"):
        (REPORT / name).unlink(missing_ok=True)
    result = lab.play(
        "playbooks/acceptance.yml",
        variables={"acceptance_report_dir": str(REPORT), "acceptance_disruptive": True},
    )
    file = REPORT / "acceptance.json"
    assert file.exists(), f"no report after {result.seconds:.0f} s, status {result.status}:\n{result.output[-8000:]}"
    report: dict[str, t.Any] = json.loads(file.read_text(encoding="utf-8"))
    report["play"] = result
    return report


@pytest.mark.parametrize("number", CHECKS)
def test_check(acceptance: dict[str, t.Any], number: int) -> None:
    check = next(check for check in acceptance["checks"] if check["number"] == number)
    assert check["status"] == "passed", json.dumps(check, indent=1)


def test_the_playbook_says_what_the_report_says(acceptance: dict[str, t.Any]) -> None:
    assert acceptance["play"].status == 0, acceptance["play"].output[-6000:]
    html = (REPORT / "acceptance.html").read_text(encoding="utf-8")
    assert "<script src" not in html and 'rel="stylesheet"' not in html
    assert all(check["title"] in html or check["title"].split("'")[0] in html for check in acceptance["checks"])


@pytest.mark.usefixtures("acceptance")
def test_nothing_is_left_behind() -> None:
    for node in lab.NODES:
        assert lab.run(node, "docker ps --all --quiet --filter label=trinode.acceptance") == ""
