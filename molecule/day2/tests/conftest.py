# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The site as it was before, and how the tests run its playbooks."""

from __future__ import annotations

import lab
import pytest
import traffic
from day2 import FINGERPRINT, FORMER_PACKAGES, OLD, Run


@pytest.fixture(scope="session", name="fingerprints")
def fixture_fingerprints() -> dict[str, list[str]]:
    """The bare hosts."""
    return {node: lab.run(node, FINGERPRINT).splitlines() for node in lab.NODES}


@pytest.fixture(scope="session", name="run")
def fixture_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("backups"))


@pytest.fixture(scope="session", name="site", autouse=True)
def fixture_site(fingerprints: dict[str, list[str]], run: Run) -> Run:
    """A site with the versions from before, and a service on every node."""
    assert set(fingerprints) == set(lab.NODES)
    run.well("site.yml", version=OLD)
    for node in lab.NODES:
        lab.run(node, FORMER_PACKAGES)
        traffic.start_service(node)
    traffic.wait_until_served(*lab.NODES)
    return run
