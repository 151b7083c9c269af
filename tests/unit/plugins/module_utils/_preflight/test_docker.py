# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys of daemon.json a run changes."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._docker import daemon
from ansible_collections.trinode.platform.plugins.module_utils._docker.daemon import State
from ansible_collections.trinode.platform.plugins.module_utils._docker.daemon_json import Owned
from ansible_collections.trinode.platform.plugins.module_utils._preflight import docker

PATH = "/etc/docker/daemon.json"
DNS = {"dns": ["192.0.2.1"]}


@pytest.mark.parametrize(
    ("content", "wanted", "changed"),
    [
        ({}, {**DNS, "live-restore": True}, ["dns", "live-restore"]),
        ({**DNS, "live-restore": False}, {**DNS, "live-restore": False}, []),
        ({**DNS, "live-restore": False}, {**DNS, "live-restore": False, "log-level": "warn"}, ["log-level"]),
        ({**DNS, "log-opts": {"max-size": "1m"}}, {**DNS, "log-opts": {"max-size": "2m"}}, ["log-opts"]),
        ({**DNS, "dns-search": ["a"]}, {**DNS, "dns-search": ["b"]}, ["dns-search"]),
    ],
)
def test_keys_that_change(
    content: dict[str, t.Any],
    wanted: dict[str, t.Any],
    changed: list[str],
    tmp_path: Path,
) -> None:
    assert docker.changes(content, wanted, str(tmp_path / "state.json"), PATH) == changed


def test_a_key_that_is_wanted_no_more_changes(tmp_path: Path) -> None:
    state = str(tmp_path / "state.json")
    daemon.save_state(state, State([Owned(("debug",), True, False, None)], None, [], None, PATH))
    assert docker.changes({**DNS, "debug": True}, DNS, state, PATH) == ["debug"]


def test_texts_that_mean_a_truth_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker, "unit_properties", lambda *_arguments: {})
    monkeypatch.setattr(docker, "settings", lambda _engine, wanted: {"given": wanted})
    others = {"log-level": "true", "debug": "perhaps"}
    state = docker.docker_state({"live-restore": "False", "icc": "true", **others})
    assert state["wanted"] == state["given"] == {"live-restore": False, "icc": True, **others}
