# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The variables of a site of test nodes, with and without those of the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("network", "expected"),
    [(None, "192.168.0"), ("", "192.168.0"), ("10.99.0", "10.99.0")],
    ids=["not set", "empty", "set"],
)
def test_an_empty_variable_counts_as_not_set(network: str | None, expected: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "LAB_NETWORK"}
    if network is not None:
        environment["LAB_NETWORK"] = network
    variables = f"@{ROOT / 'molecule' / 'shared' / 'vars' / 'site.yml'}"
    command = ["localhost", "-o", "-m", "ansible.builtin.debug", "-a", "var=hospital_network", "-e", variables]
    run = subprocess.run(
        [str(Path(sys.executable).parent / "ansible"), *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(run.stdout.partition("=>")[2])["hospital_network"] == expected
