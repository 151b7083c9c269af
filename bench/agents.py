# Copyright: Contributors to the trinode.platform project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Further nodes of the cluster, as light as they can be: Consul client agents beside each other on one node, each with a gossip port of its own."""

from __future__ import annotations

import contextlib
import json

from bench.consul import Consul
from bench.lab import Lab, LabError, wait_for
from bench.sides import DIRECTORY, UNITS

GOSSIP_PORT = 8301
FIRST_PORT = 20001
PREFIX = "bench-light-"
ALIVE = 1

CONFIG_FILE = f"{DIRECTORY}/agent.json"
UNIT_FILE = f"{UNITS}/bench-agent@.service"
# The instance is the port, which also names the agent.
UNIT = f"""\
[Unit]
Description=Light Consul agent of the benchmark (%i)

[Service]
Type=notify
ExecStart=/usr/local/bin/consul agent -config-file={CONFIG_FILE} -node={PREFIX}%i -serf-lan-port=%i -data-dir={DIRECTORY}/agents/%i
KillSignal=SIGTERM
TimeoutStartSec=120
TimeoutStopSec=30
LimitNOFILE=65536
"""


def agent_config(address: str, servers: list[str], datacenter: str = "dc1", domain: str = "consul") -> str:
    """The settings of all of them: no port but that of the gossip, and gone for good when it is ended."""
    closed = ("http", "https", "dns", "grpc", "grpc_tls", "serf_wan")
    return json.dumps(
        {
            "server": False,
            "datacenter": datacenter,
            "domain": domain,
            "bind_addr": address,
            "advertise_addr": address,
            "ports": dict.fromkeys(closed, -1),
            # Without a port, an agent takes its own for that of the others, and joins itself.
            "retry_join": [f"{server}:{GOSSIP_PORT}" for server in servers],
            "retry_interval": "2s",
            "leave_on_terminate": True,
            "performance": {"leave_drain_time": "0s"},
            "disable_update_check": True,
            "log_level": "warn",
        }
    )


class LightAgents:
    """The agents on the node that is no edge."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node = lab.nodes[2]
        self.running = 0

    def units(self) -> list[str]:
        """The units that run."""
        return [f"bench-agent@{port}.service" for port in range(FIRST_PORT, FIRST_PORT + self.running)]

    def grow(self, wanted: int) -> None:
        """Start agents until there are so many, and wait until every server knows all of them."""
        if self.running == 0:
            self.node.put(CONFIG_FILE, agent_config(self.node.address, [node.address for node in self.lab.nodes]))
            self.node.put(UNIT_FILE, UNIT)
            self.node.run("systemctl daemon-reload")
        first, self.running = FIRST_PORT + self.running, wanted
        last = FIRST_PORT + wanted - 1
        self.node.run(f"mkdir -p $(seq -f {DIRECTORY}/agents/%g {first} {last})")
        self.node.run(f"systemctl start $(seq -f bench-agent@%g.service {first} {last})", timeout=300)
        for node in self.lab.nodes:
            agent = Consul(self.lab, node)
            wait_for(lambda at=agent: len(members(at, ALIVE)) == wanted, 120, f"{node.name} knows {wanted} light agents")  # type: ignore[misc]

    def remove(self) -> None:
        """End them all, and let the cluster forget them; that there are none is no error."""
        found = self.node.run("systemctl list-units --all --plain --no-legend 'bench-agent@*' | awk '{print $1}'").split()
        if found:
            self.node.run(f"systemctl stop {' '.join(found)}; systemctl reset-failed {' '.join(found)} 2>/dev/null; true", timeout=300)
        self.node.run(f"rm -rf {UNIT_FILE} {DIRECTORY}; systemctl daemon-reload")
        self.running = 0
        agent = Consul(self.lab, self.lab.nodes[0])
        for name in members(agent):
            # The one that was there a moment ago may be gone.
            with contextlib.suppress(LabError):
                agent.call("PUT", f"/v1/agent/force-leave/{name}?prune")
        wait_for(lambda: not members(agent), 60, "the cluster forgets the light agents")


def members(consul: Consul, status: int | None = None) -> list[str]:
    """The light agents that an agent knows; only those of one status of the gossip, when one is given."""
    found = consul.call("GET", "/v1/agent/members")[0]
    return [member["Name"] for member in found if member["Name"].startswith(PREFIX) and status in (None, member["Status"])]
