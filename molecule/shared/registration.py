# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's containers, and what the catalogue holds of them."""

from __future__ import annotations

import json
import typing as t

import lab
import secure

PREFIX = "reg-"
IMAGE = "registration-test:1"

# A shell and little else, from the node's own files: a hundred of these containers cost next to nothing.
_BUILD = f"""
docker image inspect {IMAGE} >/dev/null 2>&1 && exit 0
set -e
root=$(mktemp -d)
mkdir $root/bin
for program in dash sleep rm; do cp /bin/$program $root/bin/; done
ln -s dash $root/bin/sh
for library in $(ldd /bin/dash /bin/sleep /bin/rm | grep -o '/[^ ]*\\.so[^ ]*' | sort -u); do
    mkdir -p $root$(dirname $library)
    cp -L $library $root$library
done
tar -C $root -c . | docker import - {IMAGE}
rm -r $root
"""

# Container, address, port and protocol of a published port.
Endpoint = tuple[str, str, int, str]


class Node:
    """Starts containers on a node, and knows what the catalogue should hold of those whose name has the prefix."""

    def __init__(self, name: str, prefix: str = PREFIX) -> None:
        self.name = name
        self.prefix = prefix
        self.address = lab.NODES[name]
        self.run(_BUILD)

    def run(self, script: str, check: bool = True, given: str | None = None) -> str:
        """Run a shell script as root."""
        return lab.run(self.name, script, check, given)

    def start(self, name: str, options: str = "", command: str = "sleep 3600") -> None:
        """`docker run -d` of one container."""
        self.run(f"docker run -d --name {self.prefix}{name} {options} {IMAGE} {command}")

    def is_running(self, name: str) -> bool:
        """Whether the container runs."""
        return self.run(f"docker inspect -f '{{{{.State.Running}}}}' {self.prefix}{name}") == "true"

    def api(self, path: str) -> t.Any:
        """Ask the agent."""
        return self._ask(path).json()

    def put(self, path: str, body: t.Any = None) -> None:
        """Tell the agent."""
        self._ask(path, "PUT", body)

    def forget(self, *identities: str) -> None:
        """Take registrations out of the agent, those that are there."""
        for identity in identities:
            secure.ask(self.name, f"/v1/agent/service/deregister/{identity}", secure.token("management"), "PUT")

    def _ask(self, path: str, method: str = "GET", body: t.Any = None) -> secure.Answer:
        answer = secure.ask(self.name, path, secure.token("management"), method, body)
        assert answer.status == 200, f"{self.name}: the agent says {answer.status} to {method} {path}: {answer.body}"
        return answer

    def agent_services(self) -> dict[str, t.Any]:
        """What the agent holds of these containers."""
        return {key: value for key, value in self.api("/v1/agent/services").items() if f":{self.prefix}" in key or key.startswith(self.prefix)}

    def catalogue(self) -> set[Endpoint]:
        """What the catalogue holds of these containers."""
        found = (self.api(f"/v1/catalog/node/{self.name}") or {}).get("Services") or {}
        return {
            (key.split(":")[1], value["Address"], value["Port"], "udp" if "udp" in value["Tags"] else "tcp")
            for key, value in found.items()
            if f":{self.prefix}" in key
        }

    def containers(self) -> set[Endpoint]:
        """The published ports of these containers, of those that run and are not paused."""
        listed = self.run(f"docker ps -q --filter name=^{self.prefix} --filter status=running | xargs -r docker inspect")
        found = set()
        for document in json.loads(listed or "[]"):
            for port, bindings in document["NetworkSettings"]["Ports"].items():
                for binding in bindings or ():
                    if binding["HostIp"] in ("", "0.0.0.0"):
                        found.add((document["Name"].lstrip("/"), self.address, int(binding["HostPort"]), port.split("/")[1]))
        return found

    def holds(self, name: str) -> bool:
        """Whether the catalogue holds a container."""
        return any(endpoint[0] == self.prefix + name for endpoint in self.catalogue())

    def wait_for(self, name: str, present: bool, seconds: float = 20) -> None:
        """Wait until the catalogue holds a container, or no more."""
        lab.wait_for(lambda: self.holds(name) is present, seconds, f"{self.name}: {name} {'in' if present else 'out of'} the catalogue", self.evidence)

    def settled(self, seconds: float = 20) -> None:
        """Wait until catalogue and containers are equal."""
        lab.wait_for(lambda: self.catalogue() == self.containers(), seconds, f"{self.name}: catalogue and containers are equal", self.evidence)

    def evidence(self) -> str:
        """What a person needs when they are not."""
        try:
            catalogue, containers = self.catalogue(), self.containers()
            difference = f"ghosts: {catalogue - containers}\nmissing: {containers - catalogue}"
        except AssertionError as error:
            difference = str(error)
        return f"{difference}\n{lab.journal(self.name, 'registrator', lines=60)}"

    def pid(self, unit: str) -> str:
        """The main process of a unit."""
        return self.run(f"systemctl show --property MainPID --value {unit}")

    def metric(self, name: str) -> float:
        """One of the engine's numbers."""
        for line in self.run("curl -sSf http://127.0.0.1:8099/metrics").splitlines():
            if line.startswith(f"registrator_{name} "):
                return float(line.split()[1])
        raise AssertionError(f"there is no metric {name}")

    def whole(self, seconds: float = 60) -> None:
        """Wait until Docker, the agent and the engine answer."""
        # The tests start Docker more often than systemd allows for a service that fails.
        self.run("systemctl reset-failed docker docker.socket; systemctl start docker consul registrator")
        lab.wait_for(
            lambda: self.run("docker info >/dev/null && curl -sf http://127.0.0.1:8500/v1/status/leader && registrator status >/dev/null"),
            seconds,
            f"{self.name}: Docker, the agent and the engine answer",
            lambda: lab.journal(self.name, "docker", "consul", "registrator"),
        )

    def clean(self) -> None:
        """Remove these containers, and wait until nothing of them is left."""
        self.whole()
        self.run(f"docker ps -aq --filter name=^{self.prefix} | xargs -r docker rm -f")
        self.settled(60)
