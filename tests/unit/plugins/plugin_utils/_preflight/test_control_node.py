# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Python packages that the control node lacks are named before the first task."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.plugin_utils._preflight.control_node import PACKAGES, control_node_problems

ROOT = Path(__file__).resolve().parents[5]


def test_a_control_node_that_has_everything() -> None:
    assert list(control_node_problems()) == []


@pytest.mark.parametrize(
    ("there", "fact"),
    [
        ({"cryptography", "jmespath"}, "Python of the control node lacks netaddr"),
        ({"jmespath"}, "Python of the control node lacks cryptography and netaddr"),
        (set(), "Python of the control node lacks cryptography, jmespath and netaddr"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(there: set[str], fact: str) -> None:
    (problem,) = control_node_problems(lambda name: name if name in there else None)
    assert problem.message == fact
    assert problem.remedy.startswith(f"run 'pip install {' '.join(name for name in PACKAGES if name not in there)}'")


def test_the_packages_are_those_of_the_requirements() -> None:
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    named = {re.split(r"[<>=]", line)[0] for line in lines if line and not line.startswith("#")}
    assert set(PACKAGES) == {name for name in named if not name.startswith("ansible")}
