# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts are again what they were."""

from __future__ import annotations

import lab
import pytest
from day2 import FINGERPRINT, Run

# What apt itself leaves or changes, whoever uses it.
FOREIGN = ("file etc/ld.so.cache", "file etc/.pwd.lock", "file var/lib/ucf", "file var/lib/python", "file var/lib/pam", "file var/lib/dbus")
# The users' files are compared entry by entry, so their texts and the copies of before do not count; Docker's package leaves its group, its key and
# the directories of its networks.
FOREIGN += tuple(f"file etc/{name}{suffix} " for name in ("group", "gshadow", "passwd", "shadow") for suffix in ("", "-"))
FOREIGN += ("file etc/docker/", "file etc/cni/", "group docker:")


@pytest.fixture(scope="module", name="uninstalled")
def fixture_uninstalled(site: Run) -> lab.Play:
    refused = site("uninstall.yml")
    assert refused.status != 0 and refused.changed == 0 and "that would be the whole site" in " ".join(refused.output.split())
    return site.well("uninstall.yml", uninstall_everything=True, uninstall_packages=True)


@pytest.mark.parametrize("node", lab.NODES)
def test_the_host_is_as_it_was(uninstalled: lab.Play, fingerprints: dict[str, list[str]], node: str) -> None:
    assert uninstalled.changed > 0
    after = lab.run(node, FINGERPRINT).splitlines()
    before = set(fingerprints[node])
    left = [f"+{line}" for line in after if line not in before and not line.startswith(FOREIGN)]
    left += [f"-{line}" for line in fingerprints[node] if line not in set(after) and not line.startswith(FOREIGN)]
    assert left == []


@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize("node", lab.NODES)
def test_names_still_resolve(node: str) -> None:
    assert lab.run(node, f"getent hosts {lab.PUBLIC_NAMES[0]}")


@pytest.mark.usefixtures("uninstalled")
def test_a_second_run_changes_nothing(site: Run) -> None:
    assert site.well("uninstall.yml", uninstall_everything=True, uninstall_packages=True).changed == 0
