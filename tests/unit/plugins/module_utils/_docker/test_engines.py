# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engines that docker.service does not run, out of files as /proc has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.trinode.platform.plugins.module_utils._docker import engines

CONTAINER = "ab" * 32
NODE = "cd" * 32


def process(root: Path, pid: int, cgroup: str, comm: str = "dockerd") -> None:
    """Make a process below the root."""
    directory = root / "proc" / str(pid)
    directory.mkdir(parents=True)
    (directory / "comm").write_text(f"{comm}\n")
    (directory / "cgroup").write_text(f"0::{cgroup}\n")


@pytest.mark.parametrize(
    ("cgroup", "kind"),
    [
        ("/system.slice/docker.service", None),
        ("/system.slice/snap.docker.dockerd.service", "snap"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/docker.service", "rootless"),
        ("/system.slice/mine.service", "other"),
        ("/", "other"),
        # Docker in Docker belongs to its container, rootless or not.
        (f"/system.slice/docker-{CONTAINER}.scope", None),
        (f"/docker/{CONTAINER}/init", None),
    ],
)
def test_who_runs_an_engine(tmp_path: Path, cgroup: str, kind: str | None) -> None:
    process(tmp_path, 1, "/init.scope", "systemd")
    process(tmp_path, 812, cgroup)
    found = engines.other_engines(str(tmp_path))
    assert [(one["kind"], one["pid"]) for one in found] == ([(kind, 812)] if kind else [])


def test_the_engine_of_a_user(tmp_path: Path) -> None:
    process(tmp_path, 1, "/init.scope", "systemd")
    process(tmp_path, 900, "/user.slice/user-1000.slice/session-3.scope")
    if os.geteuid() == 0:
        os.chown(tmp_path / "proc" / "900", 65534, 65534)
    assert [one["kind"] for one in engines.other_engines(str(tmp_path))] == ["rootless"]


def test_a_machine_that_is_a_container(tmp_path: Path) -> None:
    process(tmp_path, 1, f"/docker/{NODE}/init.scope", "systemd")
    process(tmp_path, 10, f"/docker/{NODE}/system.slice/docker.service")
    process(tmp_path, 11, f"/docker/{NODE}/docker/{CONTAINER}")
    assert engines.other_engines(str(tmp_path)) == []
    process(tmp_path, 12, f"/docker/{NODE}")
    assert [one["pid"] for one in engines.other_engines(str(tmp_path))] == [12]


def test_a_snap_that_does_not_run(tmp_path: Path) -> None:
    process(tmp_path, 1, "/init.scope", "systemd")
    (tmp_path / "snap/docker/current").mkdir(parents=True)
    assert [one["kind"] for one in engines.other_engines(str(tmp_path))] == ["snap"]


def test_each_has_a_remedy() -> None:
    for kind, remedy in (("snap", "snap remove docker"), ("rootless", "as alice: systemctl --user disable"), ("other", "pid 7 in mine.service")):
        assert remedy in "; ".join(engines.engine_fault({"kind": kind, "pid": 7, "user": "alice", "unit": "mine.service"}))
