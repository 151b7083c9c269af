# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt says it installs, and what is remembered of it."""

from __future__ import annotations

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._host.packages import PackagesError, forgotten, installed_by, load, remembered

APT = """Reading package lists...
Building dependency tree...
The following additional packages will be installed:
  iproute2 nginx-common
Suggested packages:
  fcgiwrap nginx-doc
The following NEW packages will be installed:
  libnginx-mod-stream nginx
  nginx-common
The following packages will be upgraded:
  iproute2
1 upgraded, 3 newly installed, 0 to remove and 5 not upgraded.
"""


def test_only_what_is_new_counts() -> None:
    assert installed_by(APT) == ["libnginx-mod-stream", "nginx", "nginx-common"]
    assert installed_by("0 upgraded, 0 newly installed") == installed_by("") == []


def test_a_later_run_adds_and_never_loses() -> None:
    known = remembered({}, "nginx", ["a"])
    known = remembered(known, "docker", ["b"])
    assert remembered(known, "nginx", ["c"]) == {"nginx": ["a", "c"], "docker": ["b"]}
    assert forgotten(known, "nginx") == {"docker": ["b"]}


def test_a_damaged_memory_is_said() -> None:
    assert load(None, "/x") == {}
    for text in ("", "[]", '{"a": 1}'):
        with pytest.raises(PackagesError, match="/x is damaged"):
            load(text, "/x")
