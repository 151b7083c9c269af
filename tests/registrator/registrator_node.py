# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One real node with Docker, a Consul agent and the engine, and what its catalogue should hold."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Any

PREFIX = "reg-"
IMAGE = "registrator-test:1"


class Node:
    """Runs commands on the node, and knows what the catalogue should hold."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prefix = ["docker", "exec", "-i", name]
        self.address = json.loads(self.run("cat /etc/registrator/config.json"))["address"]

    def run(self, script: str, check: bool = True) -> str:
        """Run a shell script as root."""
        done = subprocess.run([*self.prefix, "sh", "-c", script], capture_output=True, text=True, check=False, timeout=120)
        if check and done.returncode != 0:
            raise AssertionError(f"{script!r} ended with {done.returncode}: {done.stderr.strip()} {done.stdout.strip()}")
        return done.stdout.strip()

    def start(self, name: str, options: str = "", command: str = "sleep 3600") -> None:
        """`docker run -d` of a container of the tests."""
        self.run(f"docker run -d --name {PREFIX}{name} {options} {IMAGE} {command}")

    def api(self, path: str) -> Any:
        """Ask the agent."""
        return json.loads(self.run(f"curl -sSf 'http://127.0.0.1:8500{path}'"))

    def put(self, path: str, body: Any = None) -> None:
        """Tell the agent."""
        data = f"--data {shlex.quote(json.dumps(body))}" if body is not None else ""
        self.run(f"curl -sSf -X PUT {data} 'http://127.0.0.1:8500{path}'")

    def agent_services(self) -> dict[str, Any]:
        """What the agent holds of the tests' containers."""
        return {key: value for key, value in self.api("/v1/agent/services").items() if f":{PREFIX}" in key or key.startswith(PREFIX)}

    def catalogue(self) -> set[tuple[str, str, int, str]]:
        """Container, address, port and protocol of each instance that the catalogue holds of the tests' containers."""
        name = self.api("/v1/agent/self")["Config"]["NodeName"]
        found = (self.api(f"/v1/catalog/node/{name}") or {}).get("Services") or {}
        return {
            (key.split(":")[1], value["Address"], value["Port"], "udp" if "udp" in value["Tags"] else "tcp")
            for key, value in found.items()
            if f":{PREFIX}" in key
        }

    def containers(self) -> set[tuple[str, str, int, str]]:
        """Container, address, port and protocol of each published port of a container that runs and is not paused."""
        names = self.run(f"docker ps -q --filter name=^{PREFIX} --filter status=running").split()
        if not names:
            return set()
        found = set()
        for document in json.loads(self.run("docker inspect " + " ".join(names))):
            for port, bindings in document["NetworkSettings"]["Ports"].items():
                for binding in bindings or ():
                    if binding["HostIp"] in ("", "0.0.0.0"):
                        found.add((document["Name"].lstrip("/"), self.address, int(binding["HostPort"]), port.split("/")[1]))
        return found

    def settled(self, seconds: float = 5.0) -> None:
        """Wait until catalogue and containers are equal."""
        wait_until(lambda: self.catalogue() == self.containers(), seconds, lambda: f"catalogue {self.catalogue()}, containers {self.containers()}")

    def pid(self, unit: str) -> str:
        """The main process of a unit."""
        return self.run(f"systemctl show --property MainPID --value {unit}")

    def metric(self, name: str) -> float:
        """One of the engine's numbers."""
        for line in self.run("curl -sSf http://127.0.0.1:8099/metrics").splitlines():
            if line.startswith(f"registrator_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"there is no metric {name}")


def wait_until(condition: Callable[[], bool], seconds: float, explain: Callable[[], str]) -> float:
    """Poll; gives the seconds it took."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > seconds:
            raise AssertionError(f"not within {seconds} s: {explain()}")
        time.sleep(0.05)
    return time.monotonic() - begun
