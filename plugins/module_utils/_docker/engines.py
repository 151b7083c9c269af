# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker Engines of a machine that docker.service does not run: as a snap, rootless, or started in another way. Private to the collection.

Nothing here imports Ansible. Runs on nodes, so Python 3.9. What is found goes to the control node as plain dictionaries.
"""

from __future__ import annotations

import os
import typing as t

from .._host.ports import parse_cgroup, user_name

UNIT = "docker.service"


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _kind(unit: str, uid: int) -> str:
    if unit.startswith("snap."):
        return "snap"
    return "rootless" if uid != 0 or unit.startswith("user@") else "other"


def other_engines(root: str = "/", unit: str = UNIT) -> list[dict[str, t.Any]]:
    """Return the engines that the unit does not run. An engine inside of a container belongs to that container, so it is none of them."""
    found: list[dict[str, t.Any]] = []
    processes = os.path.join(root, "proc")
    # Where the machine is a container itself, that one is no container of it.
    machine = _read(os.path.join(processes, "1", "cgroup"))
    for pid in sorted(int(name) for name in os.listdir(processes) if name.isdigit()):
        directory = os.path.join(processes, str(pid))
        if _read(os.path.join(directory, "comm")).strip() != "dockerd":
            continue
        own, container = parse_cgroup(_read(os.path.join(directory, "cgroup")))
        if own == unit or (container and container not in machine):
            continue
        try:
            uid = os.stat(directory).st_uid
        except OSError:
            continue
        found.append({"kind": _kind(own, uid), "pid": pid, "user": user_name(uid), "unit": own})
    if os.path.isdir(os.path.join(root, "snap/docker/current")) and not any(one["kind"] == "snap" for one in found):
        found.append({"kind": "snap", "pid": 0, "user": "", "unit": ""})
    return found


def engine_fault(engine: t.Mapping[str, t.Any]) -> tuple[str, str]:
    """Return what is wrong with such an engine, and the remedy, as half sentences."""
    if engine["kind"] == "snap":
        return "Docker runs as a snap, which keeps its settings elsewhere", "move its containers away and run: snap remove docker"
    if engine["kind"] == "rootless":
        return (
            f"the user {engine['user']} runs Docker rootless (pid {engine['pid']}), which neither has these settings nor is registered",
            f"run the containers in the host's own Docker, and as {engine['user']}: systemctl --user disable --now docker",
        )
    where = f" in {engine['unit']}" if engine["unit"] else ""
    return (
        f"dockerd runs outside of {UNIT} (pid {engine['pid']}{where}), so its settings and restarts are in other hands",
        f"stop it where it is started, and run its containers in the engine of {UNIT}",
    )
