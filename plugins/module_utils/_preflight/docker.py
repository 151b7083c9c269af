# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Docker Engine of one machine, read without changing it. Private to the collection.

Nothing here imports Ansible. Runs on nodes, so Python 3.9.
"""

from __future__ import annotations

import subprocess
import time
import typing as t

from .._docker import daemon, daemon_json, engines
from .._docker.daemon import Engine, Unanswered
from .._docker.daemon_json import DaemonJsonError
from .._host import hostfile
from .facts import ping, unit_properties

SOCKET = "/var/run/docker.sock"
#: Where the settings of earlier runs are remembered, as the module docker_daemon_json does.
STATE_FILE = "/var/lib/trinode/docker_daemon.json"
#: Settings that decide where containers are reached.
_SETTINGS = ("ip", "bip", "dns", "default-address-pools")


def _run(command: list[str]) -> tuple[int, str, str]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout, done.stderr


def settings(engine: Engine, wanted: t.Mapping[str, t.Any], state_file: str = STATE_FILE) -> dict[str, t.Any]:
    """Return the file that the engine reads, the settings of it that matter to others, and the keys that a run changes.

    A damaged file is the role's to refuse.
    """
    arguments, _where = engine.arguments(engine.show())
    path = engine.config_file(arguments)
    try:
        content = daemon_json.parse(hostfile.read(path).text or "", path)
    except (DaemonJsonError, OSError):
        content = {}
    found = {key: content[key] for key in _SETTINGS if key in content}
    found.update({key: value for key in ("ip", "bip") if (value := daemon_json.flag_value(arguments, f"--{key}"))})
    return {"config_file": path, "settings": found, "changes": changes(content, wanted, state_file, path)}


def changes(content: dict[str, t.Any], wanted: t.Mapping[str, t.Any], state_file: str, path: str) -> list[str]:
    """Return the keys of the file that get another value; a change of any of them restarts the engine."""
    try:
        merged, _owned = daemon_json.merge(content, wanted, daemon.state_of(state_file, path).owned)
    except (DaemonJsonError, OSError, ValueError, KeyError):
        return []
    missing = object()
    return sorted(key for key in {*content, *merged} if content.get(key, missing) != merged.get(key, missing))


def workload(path: str) -> dict[str, t.Any]:
    """Return what the engine runs, and whether that outlives a restart. Empty when it does not answer."""
    try:
        info = daemon.ask(path, "/info")
        containers = daemon.ask(path, "/containers/json")
        networks = daemon.ask(path, "/networks")
    except Unanswered:
        return {}
    return {
        "live_restore": bool(info.get("LiveRestoreEnabled")),
        "swarm": daemon.in_swarm(info),
        "containers": sorted(str((one.get("Names") or [one.get("Id", "")[:12]])[0]).lstrip("/") for one in containers),
        "networks": [
            {"name": str(one.get("Name")), "subnet": str(pool["Subnet"])}
            for one in networks
            for pool in (one.get("IPAM") or {}).get("Config") or []
            # The networks of a swarm are not routes of this machine.
            if pool.get("Subnet") and one.get("Driver") == "bridge"
        ],
    }


def docker_state(wanted: t.Mapping[str, t.Any], path: str = SOCKET, timeout: float = 3.0) -> dict[str, t.Any]:
    """Return the engine as systemd and its socket show it.

    The socket is asked only when the service runs: asking would start it.

    Args:
        wanted: the settings that it is to get.
        path: its socket.
        timeout: how long to wait for an answer, in seconds.
    """
    wanted = daemon_json.with_truth_values(wanted)
    unit = unit_properties("docker.service", ("LoadState", "ActiveState", "SubState", "Result"))
    state: dict[str, t.Any] = {
        "load": unit.get("LoadState", "not-found"),
        "active": unit.get("ActiveState", "inactive"),
        "sub": unit.get("SubState", ""),
        "result": unit.get("Result", ""),
        "engines": engines.other_engines(),
        "reason": "",
        "wanted": wanted,
        **settings(Engine(_run, "docker.service", path), wanted),
    }
    if state["active"] in ("active", "reloading", "activating"):
        deadline = time.monotonic() + timeout
        state["reason"] = ping(path, timeout)
        while state["reason"] and state["active"] == "activating" and time.monotonic() < deadline:
            time.sleep(0.2)
            state["reason"] = ping(path, timeout)
        if not state["reason"]:
            state.update(workload(path))
    return state
