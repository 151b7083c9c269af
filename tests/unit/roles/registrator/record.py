#!/usr/bin/env python3
# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records what a Docker engine says of containers of many shapes, and of what happens to them: ``record.py DIRECTORY [API]``.

Run it as root on a machine that may lose all its containers' networks and whose engine may become a swarm manager: a
test node. It needs the Docker client, a shell at /bin/dash, small_image.py in the same directory, and no registry. The
engine is asked over its socket at the given version of the API (as in ``1.52``), or at its newest. What the tests read
is kept of each document, and nothing is changed in it.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

from small_image import ROOT

SOCKET = "/var/run/docker.sock"
PLAIN = "bb"
RICH = "registry.example:5000/team/web:1.4.2"
# An address of the host beside that of its network, and the container's command.
EXTRA = "198.51.100.7"
SLEEP = "sleep 3000"

KEPT = {
    "Config": ("Cmd", "Env", "ExposedPorts", "Healthcheck", "Hostname", "Image", "Labels", "StopSignal", "StopTimeout"),
    "HostConfig": ("NetworkMode", "PortBindings", "PublishAllPorts", "RestartPolicy"),
}
KEPT_WHOLE = ("Created", "Id", "Name", "NetworkSettings", "RestartCount", "State")

COMPOSE = {
    "com.docker.compose.container-number": "1",
    "com.docker.compose.oneoff": "False",
    "com.docker.compose.project": "shop",
    "com.docker.compose.service": "web",
}

# Shape: options, image, command.
SHAPES: dict[str, tuple[str, str, str]] = {
    "compose": (
        "--network shapes -p 8090:80 -l SERVICE_80_NAME=shop-web -l SERVICE_TAGS=http,blue -l SERVICE_VERSION=1.4.2 "
        + " ".join(f"-l {key}={value}" for key, value in COMPOSE.items()),
        RICH,
        SLEEP,
    ),
    "exposed_only": ("--expose 80", PLAIN, SLEEP),
    "healthcheck": ("-p 8186:80 --health-cmd true --health-interval 1s --health-start-period 30s", PLAIN, SLEEP),
    "healthcheck_starting": ("-p 8188:80 --health-cmd false --health-interval 100s", PLAIN, SLEEP),
    "unhealthy": ("-p 8187:80 --health-cmd 'echo no; false' --health-interval 1s --health-retries 1", PLAIN, SLEEP),
    "host_network": ("--network host -l SERVICE_80_NAME=edge -l SERVICE_443_NAME=edge-tls -l SERVICE_53_IGNORE=true", RICH, SLEEP),
    "ipv6_binding": ("-p [::]:8185:80", PLAIN, SLEEP),
    "loopback_only": ("-p 127.0.0.1:8184:80", PLAIN, SLEEP),
    "many_bindings": (f"-p 8180:80 -p 8181:80 -p 127.0.0.1:8182:80 -p {EXTRA}:8183:80", PLAIN, SLEEP),
    "network_owner": ("-p 8190:80", PLAIN, SLEEP),
    "network_sharer": ("--network container:network_owner -l SERVICE_NAME=sidecar", RICH, SLEEP),
    "no_ports": ("", PLAIN, SLEEP),
    "none_network": ("--network none --expose 80", PLAIN, SLEEP),
    "paused": ("-p 8082:8081 -l SERVICE_NAME=httpbackend", PLAIN, SLEEP),
    "port_range": ("-p 9100-9102:9100-9102 -l SERVICE_NAME=range", PLAIN, SLEEP),
    "published": ("-p 8081:8081 -l SERVICE_NAME=httpbackend", PLAIN, SLEEP),
    "restart_loop": ("--restart always -p 8189:80", PLAIN, "false"),
    "several_ports": ("-P", RICH, SLEEP),
    "stop_signal": ("-p 8191:80 --stop-signal SIGQUIT --stop-timeout 120", PLAIN, SLEEP),
    "stopped": ("-p 8192:80", PLAIN, SLEEP),
    "udp_and_tcp": ("-p 1053:53/tcp -p 1053:53/udp -l SERVICE_NAME=dns", PLAIN, SLEEP),
}

IMAGES = f"""{ROOT}tar -C $root -c . | docker import - {PLAIN}
tar -C $root -c . | docker import -c 'EXPOSE 80/tcp' -c 'EXPOSE 443/tcp' -c 'EXPOSE 53/udp' -c 'ENV SERVICE_NAME=from-image' \\
    -c 'ENV SERVICE_80_REGION=image' -c 'LABEL maintainer=team' - {RICH}
rm -r $root
"""


def shell(script: str, check: bool = True) -> str:
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"{script}: {done.stderr}")
    return done.stdout.strip()


class Engine(http.client.HTTPConnection):
    """Docker's API over its socket."""

    def __init__(self, version: str) -> None:
        super().__init__("docker")
        self.version = version
        self.prefix = f"/v{version}" if version else ""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(SOCKET)

    def get(self, path: str) -> t.Any:
        self.request("GET", self.prefix + path)
        answer = self.getresponse()
        text = answer.read()
        if answer.status != 200:
            sys.exit(f"{path}: {answer.status} {text.decode()}")
        return json.loads(text)

    def follow(self) -> list[dict[str, t.Any]]:
        """Gathers events from now on: the engine itself remembers only the latest few."""
        self.request("GET", self.prefix + "/events")
        answer = self.getresponse()
        gathered: list[dict[str, t.Any]] = []
        threading.Thread(target=lambda: gathered.extend(map(json.loads, iter(answer.readline, b""))), daemon=True).start()
        return gathered


def wait(what: str, look: t.Callable[[], t.Any], seconds: float = 60) -> t.Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.1)
    return sys.exit(f"{what}: not within {seconds} s")


def kept(document: dict[str, t.Any]) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {key: document[key] for key in KEPT_WHOLE if key in document}
    for part, keys in KEPT.items():
        found[part] = {key: document[part][key] for key in keys if key in document[part]}
    return found


def main() -> None:
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    engine = Engine(sys.argv[2] if len(sys.argv) > 2 else "")
    events = Engine(engine.version).follow()

    def inspect(container: str) -> dict[str, t.Any]:
        found: dict[str, t.Any] = engine.get(f"/containers/{container}/json")
        return found

    def save(name: str, container: str = "") -> None:
        (target / f"{name}.json").write_text(json.dumps(kept(inspect(container or name)), indent=2, sort_keys=True) + "\n", encoding="utf-8")

    shell(IMAGES)
    shell(f"ip address replace {EXTRA}/32 dev lo; docker rm -f {' '.join(SHAPES)} 2>/dev/null; docker network create shapes 2>/dev/null", check=False)
    for name, (options, image, command) in SHAPES.items():
        shell(f"docker run -d --name {name} {options} {image} {command}")
    shell("docker pause paused; docker stop -t 0 stopped")
    wait("healthy", lambda: inspect("healthcheck")["State"]["Health"]["Status"] == "healthy")
    wait("unhealthy", lambda: inspect("unhealthy")["State"]["Health"]["Status"] == "unhealthy")
    # Between two tries it is restarting.
    wait("between two tries", lambda: inspect("restart_loop")["State"]["Restarting"])
    for name in SHAPES:
        save(name)
    shell("docker kill -s HUP published; docker rename published renamed; docker rename renamed published; docker unpause paused; docker restart -t 0 compose")

    # What a swarm's tasks look like: one publishes on its host, the other through the routing mesh.
    shell("docker swarm init --advertise-addr lo 2>/dev/null || docker swarm init --advertise-addr 127.0.0.1")
    common = f"--detach --no-resolve-image --container-label SERVICE_TAGS=http {PLAIN} {SLEEP}"
    shell(f"docker service create --name shop_task --label com.docker.stack.namespace=shop --container-label com.docker.stack.namespace=shop"
          f" --publish mode=host,target=80,published=8320 {common}")  # fmt: skip
    shell(f"docker service create --name shop_mesh --publish target=80,published=8321 {common}")
    for name in ("task", "mesh"):
        container = wait(f"a task of {name}", lambda name=name: shell(f"docker ps -q --filter name=shop_{name}"))
        save(f"swarm_{name}", container)
    shell(f"docker swarm leave --force; docker rm -f {' '.join(SHAPES)}; docker network rm shapes; ip address del {EXTRA}/32 dev lo")

    kinds: dict[str, t.Any] = {}
    for event in list(events):
        if event.get("Type") in ("container", "network"):
            kinds.setdefault(f"{event['Type']} {str(event.get('Action')).partition(':')[0]}", event)
    (target / "events.jsonl").write_text("".join(json.dumps(kinds[kind], sort_keys=True) + "\n" for kind in sorted(kinds)), encoding="utf-8")
    version = engine.get("/version")
    print(f"recorded {len(list(target.iterdir()))} files of Docker {version['Version']}, API {engine.prefix or version['ApiVersion']}")


if __name__ == "__main__":
    main()
