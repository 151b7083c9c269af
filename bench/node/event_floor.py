# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a node: the least that a registration can cost. Each start and each end of a container of the benchmark is passed on to the agent as it comes,
without a look at the container and without any care. No registrator can be faster; what an engine needs above this is its own. Runs until it is ended.

Arguments: the port of the agent, the container label to look for, and what to put before the container's name to make the service's name.
"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from urllib.parse import quote

DOCKER = "/var/run/docker.sock"
CONSUL = "127.0.0.1"


class DockerConnection(http.client.HTTPConnection):
    """HTTP over Docker's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(DOCKER)


def main(port: str, label: str, prefix: str) -> None:
    """Entry point."""
    docker, consul = DockerConnection("localhost"), http.client.HTTPConnection(CONSUL, int(port))
    filters = quote(json.dumps({"type": ["container"], "event": ["start", "kill", "die"], "label": [label]}))
    docker.request("GET", f"/events?filters={filters}")
    events = docker.getresponse()
    registered: set[str] = set()
    while True:
        line = events.readline()
        if not line:
            return
        event = json.loads(line)
        name = prefix + event["Actor"]["Attributes"]["name"]
        if event["Action"] == "start":
            registered.add(name)
            consul.request("PUT", "/v1/agent/service/register", json.dumps({"ID": name, "Name": name, "Port": 1}))
        elif name in registered:
            registered.discard(name)
            consul.request("PUT", "/v1/agent/service/deregister/" + name)
        else:
            continue
        consul.getresponse().read()


if __name__ == "__main__":
    main(*sys.argv[1:])
